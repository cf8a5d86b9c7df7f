"""Write the generated parts of the docs: tables of faults, scenarios, properties, verdicts, members.

Each table stands between `<!-- generated: NAME -->` and `<!-- end -->`; run this after adding a member. A
test checks that the files are as this would write them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from midstream._catalog import bundled, properties
from midstream._positions import PLACES
from midstream._registry import FAMILIES, members
from midstream._scenario import Expect, ObjectModel, ProcessModel, Scenario
from midstream._schedule import OPERATIONS
from midstream._verdict import MEANING

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    columns = list(head)
    return "\n".join([line(columns), line("---" for _ in columns), *(line(r) for r in rows)])


def code(text: str) -> str:
    return f"`{text}`"


def faults() -> str:
    rows = [
        (code(name), m.summary, m.takes, code(m.example), " ".join(m.grounds)) for name, m in members("faults")
    ]
    return table(("fault", "what goes wrong", "value", "example", "taxonomy"), rows)


def positions() -> str:
    return table(("place", "where it is"), [(code(n), text) for n, text in PLACES.items()])


def operations() -> str:
    return table(("operation", "what it does"), [(code(n), text) for n, text in OPERATIONS.items()])


def scenarios() -> str:
    rows = [
        (code(s.id), s.model.kind, " ".join(s.model.properties), s.model.requirement, " ".join(s.model.stores))
        for s in bundled()
    ]
    return table(("scenario", "kind", "properties", "what a correct driver does", "stores"), rows)


def property_table() -> str:
    rows = []
    for p in properties():
        ids = [s.id for s in bundled() if p.id in s.model.properties]
        rows.append((p.id, p.level, p.text, p.clause, len(ids)))
    return table(("property", "level", "a correct client must", "clause", "scenarios"), rows)


def verdicts() -> str:
    return table(("verdict", "meaning"), [(code(v.value), text) for v, text in MEANING.items()])


def fields() -> str:
    parts = []
    for title, model in (("", Scenario), ("object.", ObjectModel), ("expect.", Expect), ("process.", ProcessModel)):
        rows = [
            (code(f"{title}{name}"), field.description or "see below", "" if field.is_required() else code(repr(field.default)))
            for name, field in model.model_fields.items()
            if name not in ("object", "expect", "process")
        ]
        parts.append(table(("key", "meaning", "default"), rows))
    return "\n\n".join(parts)


def families() -> str:
    rows = []
    for family in FAMILIES:
        for name, member in members(family):
            rows.append((family[:-1], code(name), member.summary))
    return table(("family", "member", "what it is"), rows)


PARTS = {
    "faults": faults,
    "positions": positions,
    "operations": operations,
    "scenarios": scenarios,
    "properties": property_table,
    "verdicts": verdicts,
    "fields": fields,
    "families": families,
}


def fill(text: str) -> str:
    """The text with every generated part made anew; raises KeyError for an unknown name."""

    def part(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z]+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


def main() -> int:
    """Rewrite the files; with --check only say which are not current (exit 1)."""
    stale = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        if (new := fill(text)) != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: {name}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
