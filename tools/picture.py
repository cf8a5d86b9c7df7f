"""Draw docs/run.svg from the results of a real run: `make demo`, then this."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

OUT = Path("midstream-out")
PICTURE = Path("docs/run.svg")
COLOURS = dict.fromkeys(("pass", "clean_failure"), "green")
COLOURS |= dict.fromkeys(("observed", "not_applicable", "not_reached"), "dim")
COLOURS |= dict.fromkeys(("restarted", "unsafe"), "yellow")


def main() -> int:
    cases = json.loads((OUT / "results.json").read_text(encoding="utf-8"))["cases"]
    rows: dict[tuple[str, str], Counter[str]] = {}
    examples: dict[str, dict[str, str]] = {}
    for case in cases:
        rows.setdefault((case["driver"], case["store"]), Counter())[case["verdict"]] += 1
        if case["driver"] == "naive" and case["level"] == "must":
            examples.setdefault(case["verdict"], case)
    console = Console(record=True, width=118, file=io.StringIO(), highlight=False)
    console.print("[bold]$ make demo[/]\n")
    table = Table("driver", "store", "verdicts")
    for (driver, store), verdicts in rows.items():
        cells = [f"[{COLOURS.get(v, 'red')}]{v} {n}[/]" for v, n in sorted(verdicts.items())]
        table.add_row(driver, store, "  ".join(cells))
    console.print(table)
    console.print()
    for verdict in ("truncated", "duplicated", "shifted", "foreign", "corrupt"):
        if case := examples.get(verdict):
            text = escape(f"{case['scenario']} on {case['store']}: {case['diagnosis']}")
            console.print(f"[red]{verdict:<11}[/] {text}")
    svg = console.export_svg(title="midstream")
    # The default style fetches a web font; a picture must not.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    PICTURE.write_text(re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
