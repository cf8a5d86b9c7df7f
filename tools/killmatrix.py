"""Let every saboteur loose on every quick scenario and write docs/kill-matrix.md: who is caught by what.

Takes some minutes. Run it after adding a scenario, a check or a saboteur.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "tests" / "saboteurs"
sys.path.insert(0, str(ZOO))

from _bases import Split, Trusting  # noqa: E402
from _zoo import DEADLINE, Row, Zoo, cases_for, scenarios, strict  # noqa: E402
from sins import SINS  # noqa: E402

from midstream._registry import members  # noqa: E402
from midstream._verdict import FINE, MEANING, Verdict  # noqa: E402

VARIANTS = 3
BASE = "skips_the_digest"  # what those that look at no digest are caught by for that alone
PAGE = ROOT / "docs" / "kill-matrix.md"
HEAD = """# Kill matrix

A saboteur is a client with one sin; `tests/saboteurs/` holds a correct client and {sins} of them, each a small
override. This page is written by `tools/killmatrix.py` from a run of {cases:,} cases on the bundled origin.
Run one yourself:

```
midstream run --driver py:tests/saboteurs/sins.py:appends_a_whole_body --store origin
```

Many saboteurs look at no digest, as most clients do, so that their own sin shows. What `skips_the_digest` is
caught by is not counted for them.
"""


def caught_rows(name: str, rows: dict[str, list[Row]]) -> list[Row]:
    """What accuses a saboteur of its own sin."""
    found = [row for row in rows[name] if row.caught]
    if name == BASE or not issubclass(SINS[name], (Trusting, Split)):
        return found
    base = {(row.scenario, row.variant, row.verdict) for row in rows[BASE]}
    return [row for row in found if (row.scenario, row.variant, row.verdict) not in base]


def shown(items: Iterable[str], most: int = 3) -> str:
    """The first few and how many more."""
    listed = list(dict.fromkeys(items))
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(f"`{item}`" for item in listed[:most]) + more


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def ordered(name: str, found: Sequence[Row]) -> list[str]:
    """Scenarios that catch a saboteur, first those that are meant for it."""
    meant = [place.partition("[")[0] for place in SINS[name].caught]
    all_ids = [row.scenario for row in found]
    return [i for i in meant if i in all_ids] + sorted(set(all_ids))


def page(rows: dict[str, list[Row]]) -> str:
    caught = {name: caught_rows(name, rows) for name in sorted(SINS)}
    parts = [HEAD.format(sins=len(SINS), cases=sum(map(len, rows.values())))]
    lines = []
    for name, found in caught.items():
        verdicts = Counter(
            {v: len({r.scenario for r in found if r.verdict == v}) for v in {r.verdict for r in found}}
        )
        said = ", ".join(
            f"{verdict} {count}" for verdict, count in sorted(verdicts.items(), key=lambda i: (-i[1], i[0]))
        )
        lines.append((f"`{name}`", SINS[name].__doc__, said, shown(ordered(name, found))))
    parts.append("## Saboteurs\n\nVerdicts with the number of scenarios.\n")
    parts.append(table(("saboteur", "sin", "verdicts", "caught by"), lines))
    by_check: dict[str, list[str]] = {}
    for name, found in caught.items():
        for check in sorted(set(chain.from_iterable(row.checks for row in found))):
            by_check.setdefault(check, []).append(name)
    parts.append("\n## Checks\n")
    parts.append(
        table(
            ("check", "rule", "tripped by"),
            [(f"`{i}`", check.summary, shown(by_check.get(i, []))) for i, check in members("checks")],
        )
    )
    accusing = [v for v in Verdict if v not in FINE and v is not Verdict.HARNESS_ERROR]
    parts.append("\n## Verdicts\n")
    parts.append(
        table(
            ("verdict", "meaning", "deserved by"),
            [
                (
                    v.value,
                    MEANING[v],
                    shown(n for n, found in caught.items() if v in {r.verdict for r in found}),
                )
                for v in accusing
            ],
        )
    )
    parts.append(
        "\n## Scenarios\n\nThose for the origin that accuse, with the number of saboteurs they catch.\n"
    )
    tripped = {
        s.id: [n for n in caught if s.id in {r.scenario for r in rows[n] if r.caught}]
        for s in scenarios()
        if strict(s)
    }
    parts.append(
        table(
            ("scenario", "catches", "for instance"),
            [(f"`{i}`", len(n), shown(n)) for i, n in tripped.items()],
        )
    )
    return "\n".join(parts) + "\n"


def main() -> int:
    with Zoo() as zoo, ThreadPoolExecutor(2) as lanes:

        def run(name: str) -> list[Row]:
            sin = SINS[name]
            driver = f"py:{ZOO / 'sins.py'}:{name}"
            found = zoo.run(
                driver, list(cases_for(tuple(sin.caught), sin.slow, VARIANTS)), sin.deadline or DEADLINE
            )
            print(f"{name}: {len(found)} cases, {sum(row.caught for row in found)} accuse", flush=True)
            return found

        rows = dict(zip(SINS, lanes.map(run, SINS), strict=True))
    PAGE.write_text(page(rows), encoding="utf-8")
    for name in SINS:
        if not caught_rows(name, rows):
            print(f"uncaught: {name}")
        for row in (row for row in rows[name] if row.level == "harness"):
            print(f"harness error: {name}: {row.diagnosis}: {row.replay}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
