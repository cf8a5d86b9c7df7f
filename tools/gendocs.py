"""Write the generated parts of the docs: tables of faults, scenarios, commands and so on; and the schema.

Each table stands between `<!-- generated: NAME -->` and `<!-- end -->`; run this after adding a member. A
test checks that the files are as this would write them.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer

import midstream.cli
import reknit.cli
from midstream import pytest_plugin
from midstream._catalog import bundled, properties
from midstream._model import Expect, ObjectModel, ProcessModel, Scenario, UploadModel, json_schema
from midstream._operations import OPERATIONS
from midstream._positions import PLACES
from midstream._registry import FAMILIES, members
from midstream._verdict import MEANING

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")))

SCHEMA = "scenarios/schema.json"


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def line(cells: Iterable[object]) -> str:
        return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"

    columns = list(head)
    return "\n".join([line(columns), line("---" for _ in columns), *(line(r) for r in rows)])


def code(text: str) -> str:
    return f"`{text}`"


def faults() -> str:
    rows = [
        (code(name), m.summary, m.takes, code(m.example), " ".join(m.grounds))
        for name, m in members("faults")
    ]
    return table(("fault", "what goes wrong", "value", "example", "taxonomy"), rows)


def positions() -> str:
    return table(("place", "where it is"), [(code(n), text) for n, text in PLACES.items()])


def operations() -> str:
    return table(("operation", "what it does"), [(code(n), text) for n, text in OPERATIONS.items()])


def scenarios() -> str:
    rows = [
        (
            code(s.id),
            s.model.kind,
            " ".join(s.model.properties),
            s.model.requirement,
            " ".join(s.model.stores),
        )
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
    for title, model in (
        ("", Scenario),
        ("object.", ObjectModel),
        ("expect.", Expect),
        ("process.", ProcessModel),
        ("upload.", UploadModel),
    ):
        rows = [
            (
                code(f"{title}{name}"),
                field.description or "see below",
                "" if field.is_required() else code(repr(field.default)),
            )
            for name, field in model.model_fields.items()
            if name not in ("object", "expect", "process", "upload")
        ]
        parts.append(table(("key", "meaning", "default"), rows))
    return "\n\n".join(parts)


def families() -> str:
    rows = []
    for family in FAMILIES:
        for name, member in members(family):
            rows.append((family[:-1], code(name), member.summary))
    return table(("family", "member", "what it is"), rows)


def _commands(app: typer.Typer, program: str) -> str:
    """Every command of a program with its arguments and options, as its own help has them."""
    root: Any = typer.main.get_command(app)
    parts = []
    for name, command in root.commands.items():
        rows = []
        for p in command.params:
            if p.name == "help":
                continue
            shown = (
                ", ".join(code(o) for o in [*p.opts, *p.secondary_opts])
                if p.opts[0][0] == "-"
                else p.name.upper()
            )
            given = "" if p.required or p.default is None or p.default is False else code(str(p.default))
            if p.name == "jobs":
                given = "twice the cores"  # not those of the machine that wrote this
            choices = ", ".join(code(str(c)) for c in getattr(p.bare_type, "__members__", ()))
            text = f"{p.help or ''} One of {choices}." if choices else p.help or ""
            rows.append((shown, text, "required" if p.required else given))
        usage = f"### {program} {name}\n\n{command.help}"
        parts.append(f"{usage}\n\n{table(('option', 'meaning', 'default'), rows)}" if rows else usage)
    return "\n\n".join(parts)


def commands() -> str:
    return _commands(midstream.cli.app, "midstream")


def reknit_commands() -> str:
    return _commands(reknit.cli.app, "reknit")


def plugin_options() -> str:
    """The plugin's options and its fixtures."""
    parser = pytest.Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    rows = []
    for option in parser.getgroup("midstream").options:
        attributes = option.attrs()
        rows.append((code(option.names()[0]), attributes["help"]))
    return table(("option", "meaning"), rows)


def reknit_options() -> str:
    """The fields of reknit.Options with what stands behind each."""
    source = ast.parse(inspect.getsource(reknit.Options))
    body = source.body[0].body  # type: ignore[attr-defined]
    rows = []
    for line, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(line, ast.AnnAssign):
            text = after.value.value if isinstance(after, ast.Expr) else ""
            value = ast.unparse(line.value) if line.value else ""
            value = "{}" if "dict" in value else value
            rows.append((code(ast.unparse(line.target)), " ".join(text.split()), code(value)))
    return table(("option", "meaning", "default"), rows)


PARTS = {
    "faults": faults,
    "positions": positions,
    "operations": operations,
    "scenarios": scenarios,
    "properties": property_table,
    "verdicts": verdicts,
    "fields": fields,
    "families": families,
    "commands": commands,
    "plugin-options": plugin_options,
    "reknit-commands": reknit_commands,
    "reknit-options": reknit_options,
}


def fill(text: str) -> str:
    """The text with every generated part made anew; raises KeyError for an unknown name."""

    def part(found: re.Match[str]) -> str:
        return f"<!-- generated: {found[1]} -->\n{PARTS[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- generated: ([a-z-]+) -->\n.*?<!-- end -->", part, text, flags=re.DOTALL)


def main() -> int:
    """Rewrite the files; with --check only say which are not current (exit 1)."""
    stale = []
    for name in (*FILES, SCHEMA):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = json.dumps(json_schema(), indent=2) + "\n" if name == SCHEMA else fill(text)
        if new != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if '--check' in sys.argv else 'written'}: {name}")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
