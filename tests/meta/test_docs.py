"""The prose against the code: generated parts are current, names occur, links and commands hold."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

import midstream.cli
import reknit
import reknit.cli
from midstream._model import Expect, ObjectModel, ProcessModel, Scenario, UploadModel, json_schema
from midstream._operations import OPERATIONS
from midstream._positions import PLACES
from midstream._registry import FAMILIES, members
from midstream._verdict import Verdict

APPS = {"midstream": midstream.cli.app, "reknit": reknit.cli.app}


def test_generated_parts(tool: Callable[[str], ModuleType], pages: dict[str, str], root: Path) -> None:
    """Each page is as the generator would write it, the schema too, and it knows all pages."""
    gendocs = tool("gendocs")
    stale = [name for name, text in pages.items() if gendocs.fill(text) != text]
    assert not stale, "run `make docs`"
    assert set(pages) - {"CHANGELOG.md"} <= set(gendocs.FILES)
    used = {name for text in pages.values() for name in re.findall(r"<!-- generated: ([a-z-]+) -->", text)}
    assert used == set(gendocs.PARTS)
    assert gendocs.fill("a") == "a"
    schema = (root / gendocs.SCHEMA).read_text(encoding="utf-8")
    assert json.loads(schema) == json_schema()
    with pytest.raises(KeyError):
        gendocs.fill("<!-- generated: nothing -->\n<!-- end -->")


def test_the_generator(
    tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes what is not current, says so, and with --check only says so."""
    gendocs = tool("gendocs")
    monkeypatch.setattr(gendocs, "ROOT", tmp_path)
    monkeypatch.setattr(gendocs, "FILES", ("a.md",))
    (tmp_path / "scenarios").mkdir()
    (tmp_path / gendocs.SCHEMA).write_text("{}")
    page = tmp_path / "a.md"
    page.write_text("<!-- generated: verdicts -->\nold\n<!-- end -->\n")
    monkeypatch.setattr("sys.argv", ["gendocs", "--check"])
    assert gendocs.main() == 1
    assert "old" in page.read_text()
    monkeypatch.setattr("sys.argv", ["gendocs"])
    assert gendocs.main() == 0
    assert "`harness_error`" in page.read_text()
    monkeypatch.setattr("sys.argv", ["gendocs", "--check"])
    assert gendocs.main() == 0


def commands(name: str) -> dict[str, Any]:
    root: Any = typer.main.get_command(APPS[name])
    return dict(root.commands)


def names() -> Iterator[tuple[str, str]]:
    """Every name a user can write or meet, as it stands in the docs."""
    for family in FAMILIES:
        yield from ((family, f"`{name}`") for name, _ in members(family))
    yield from (("verdict", f"`{v.value}`") for v in Verdict)
    yield from (("position", f"`{name}`") for name in PLACES)
    yield from (("operation", f"`{name}`") for name in OPERATIONS)
    models = (
        ("", Scenario),
        ("object.", ObjectModel),
        ("expect.", Expect),
        ("process.", ProcessModel),
        ("upload.", UploadModel),
    )
    for prefix, model in models:
        fields = [f for f in model.model_fields if f not in ("object", "expect", "process", "upload")]
        yield from (("scenario key", f"`{prefix}{field}`") for field in fields)
    for program in APPS:
        for name, command in commands(program).items():
            yield "command", f"{program} {name}"
            options = [o for p in command.params for o in [*p.opts, *p.secondary_opts] if o.startswith("-")]
            yield from (("option", f"`{o}`") for o in options if o != "--help")
    yield from (("option", o) for o in ("--version", "--midstream-store", "--midstream-scenario"))
    yield from (("option", o) for o in ("--midstream-injector", "--midstream-seed"))
    yield from (("fixture", f) for f in ("midstream_driver", "midstream_store", "midstream_inject"))
    yield from (("name of reknit", f"`{name}") for name in reknit.__all__ if name != "ReknitError")
    yield from (("option of reknit", f"`{name}`") for name in vars(reknit.Options)["__dataclass_fields__"])


def test_every_name_is_documented(pages: dict[str, str]) -> None:
    """Faults, stores, drivers, checks, verdicts, keys, positions, commands and options all occur."""
    text = "\n".join(pages.values())
    assert not [f"{kind} {name}" for kind, name in names() if name not in text]
    assert "`ReknitError`" in text


def test_environment_variables(pages: dict[str, str], root: Path) -> None:
    """Every variable that reknit reads for a store is in its page."""
    from reknit.stores import gridfs, rbd, s3, swift

    stores = (gridfs, rbd, s3, swift)
    named = [v for store in stores for variables in store._SETTINGS.values() for v in variables]
    assert not [v for v in named if f"`{v}`" not in pages["docs/reknit.md"]]
    assert not [s for store in stores for s in store._SETTINGS if f"`{s}`" not in pages["docs/reknit.md"]]


def test_changelog(pages: dict[str, str]) -> None:
    """The changelog tells of every command."""
    for program in APPS:
        for name in commands(program):
            assert (
                f"`{program} {name}`" in pages["CHANGELOG.md"]
                or f"`{name}`" in pages["CHANGELOG.md"]
                or (f"`{program} {name} " in pages["CHANGELOG.md"])
            ), (program, name)


def test_links(pages: dict[str, str], root: Path) -> None:
    """Every relative link leads to a file, and to a heading of it where it names one."""
    broken = []
    for name, text in pages.items():
        bare = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", bare):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (root / name).parent / path if path else root / name
            if not file.exists():
                broken.append(f"{name}: {target}")
            elif anchor:
                headings = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
                assert anchor in slugs, f"{name}: {target}"
    assert not broken


def lines(pages: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Command lines of ours in the prose, in blocks and in running text."""
    for page, text in pages.items():
        blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", rest)]
        for line in [part.strip() for block in blocks for part in block.splitlines()] + inline:
            if re.match(r"(midstream|reknit) [a-z]", line):
                yield page, shlex.split(line, comments=True)


def test_commands_in_the_prose(pages: dict[str, str]) -> None:
    """Every command line that is shown is one that the program understands."""
    seen = 0
    for page, (program, name, *rest) in lines(pages):
        known = commands(program)
        assert name in known, (page, program, name)
        if not rest:
            continue  # spoken of, not shown
        seen += 1
        known[name].make_context(name, rest)  # raises for an option or a value that is none
    assert seen >= 6


def test_options_in_the_prose(pages: dict[str, str]) -> None:
    """An option of ours that the prose names exists."""
    known = {
        o for p in APPS for c in commands(p).values() for q in c.params for o in [*q.opts, *q.secondary_opts]
    }
    known |= {"--version", "--help", "--midstream-store", "--midstream-scenario", "--midstream-injector"}
    known |= {"--midstream-seed", "--midstream-quick"}
    for page, text in pages.items():
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in known, (page, option)


def test_make_targets_in_the_prose(pages: dict[str, str], root: Path) -> None:
    """What the prose says to make can be made."""
    targets = re.findall(r"^([a-z]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for page, text in pages.items():
        for words in re.findall(r"(?:`|^)make ([a-z ]+?)(?:`|  |$)", text, re.MULTILINE):
            for word in words.split():
                assert word in targets, (page, word)


def test_examples_are_python(pages: dict[str, str]) -> None:
    """Blocks of Python compile."""
    for page, text in pages.items():
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            compile(block, page, "exec")


def test_fault_lines_in_the_prose(pages: dict[str, str]) -> None:
    """Fault lines in the prose read as faults."""
    from midstream._schedule import Rule

    text = "\n".join(pages.values())
    found = re.findall(
        r"(?:GET|HEAD|CONNECTION|get_object|\*)\S* [a-z-]+@[a-z0-9+%-]+(?::[^\s'\"`|]+)?", text
    )
    real = [line for line in found if "my-fault" not in line and "{" not in line]
    assert len(real) > 20
    for line in real:
        Rule.parse(line.rstrip(".,;)"))
