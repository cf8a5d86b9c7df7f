"""The checkout itself: docstrings, layers, what no file may hold, and what has to be there."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
from pathlib import Path

import pytest

CODE = ("harness", "reference", "tests", "tools", "bench")


def sources(root: Path, *folders: str) -> list[Path]:
    return sorted(p for f in folders for p in (root / f).rglob("*.py") if "__pycache__" not in p.parts)


@pytest.mark.parametrize("folder", CODE)
def test_modules_say_what_they_are(root: Path, folder: str) -> None:
    """Every module begins with a docstring."""
    bare = [p for p in sources(root, folder) if not ast.get_docstring(ast.parse(p.read_bytes()))]
    assert not bare


@pytest.mark.parametrize("folder", ["tests", "harness/midstream/testing"])
def test_tests_say_what_they_show(root: Path, folder: str) -> None:
    """Every test has a docstring: words that end as a sentence does."""
    bare = []
    for path in sources(root, folder):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                text = ast.get_docstring(node) or ""
                if not re.match(r".+[.?)]$", text, re.DOTALL) or "\n\n" in text:
                    bare.append(f"{path.relative_to(root)}:{node.lineno} {node.name}")
    assert not bare


@pytest.mark.parametrize(("package", "contract"), [("midstream", "layers"), ("reknit", "reknit")])
def test_layers_list_every_module(root: Path, package: str, contract: str) -> None:
    """The contract of layers names each module once, and none that is not there."""
    config = configparser.ConfigParser()
    config.read(root / ".importlinter")
    section = config[f"importlinter:contract:{contract}"]
    named = re.findall(r"\w+", section["layers"]) + re.findall(r"\w+", section["exhaustive_ignores"])
    folder = root / ("harness" if package == "midstream" else "reference") / package
    there = {p.stem for p in folder.glob("*.py") if p.stem != "__init__"}
    there |= {p.parent.name for p in folder.glob("*/__init__.py")}
    assert sorted(named) == sorted(there)


def test_typed(root: Path) -> None:
    """Both packages say that they are typed."""
    assert (root / "harness/midstream/py.typed").is_file()
    assert (root / "reference/reknit/py.typed").is_file()


# Written apart, so that this file does not hold them.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.-])/(?:wo" r"rk|ro" r"ot|ho" r"me/\w+|Us" r"ers)(?:/|\b)",
    "a registry's host": r"pypi\.(?:o" r"rg|python)|files\.pythonho" r"sted|artif" r"actory|nex" r"us\.",
    "who wrote it": r"(?i)\b(?:a"
    r"gents?|sub-?a"
    r"gents?|cla"
    r"ude|anthro"
    r"pic|chat"
    r"gpt|open"
    r"ai)\b",
    "how it came about": r"(?i)\b(?:as in"
    r"structed|these in"
    r"structions|my in"
    r"structions|the br"
    r"ief)\b",
    "a shared folder": r"(?<![\w/])sha" r"red/",
}
# What HTTP calls a client, and what is a public address that the text is about.
ALLOWED = re.compile(r"(?i)user[-_ ]a" r"gents?|https?://(?:www\.)?py" r"pi\.org/project/\S+")


def test_nothing_of_where_it_was_made(tracked: list[Path], root: Path) -> None:
    """No tracked file holds a machine's path, a registry's host or a word about its making."""
    found = []
    for path in tracked:
        name = str(path.relative_to(root))
        try:
            text = ALLOWED.sub("", path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            continue
        for what, pattern in FORBIDDEN.items():
            for match in re.finditer(pattern, text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{name}:{line}: {what}: {match.group()!r}")
    assert not found


def test_nothing_ignored_is_tracked(root: Path, tracked: list[Path]) -> None:
    """What git is told to ignore is not in it; no file is large."""
    listed = subprocess.run(
        ["git", "ls-files", "-i", "-c", "--exclude-standard"], cwd=root, capture_output=True, check=True
    )
    assert listed.stdout == b""
    assert not [p for p in tracked if p.stat().st_size > 1_000_000]


def test_scripts_can_be_run(root: Path) -> None:
    """What is called by its name may be executed, and names its interpreter."""
    for name in ("tools/setup", "tools/compose-test", ".ci/run"):
        path = root / name
        assert path.stat().st_mode & 0o111
        assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
        subprocess.run(["bash", "-n", str(path)], check=True)
