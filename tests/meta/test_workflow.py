"""The hosted workflow against the Makefile and the package: it cannot be run here, but it can be read."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def text(root: Path) -> str:
    return (root / ".github/workflows/ci.yml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def job(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)["jobs"]["test"]
    return found


def test_every_python_that_is_promised(root: Path, job: dict[str, Any]) -> None:
    """The versions it runs are those that the package names."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert job["strategy"]["matrix"]["python"] == named
    assert project["requires-python"] == f">={named[0]}"


def test_its_commands_exist(root: Path, job: dict[str, Any]) -> None:
    """What it makes are targets; `make check` is among them, in parts."""
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    made = {
        word for step in job["steps"] for word in step.get("run", "").split()[1:] if "make " in step["run"]
    }
    assert made <= targets
    assert made >= {"test", "lint", "types", "imports", "demo"}


def test_actions_are_pinned(text: str) -> None:
    """A tag can be moved: each action is named by its commit, with the version beside it for people."""
    uses = re.findall(r"uses: (.*)", text)
    assert len(uses) == 3
    for line in uses:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


def test_it_may_do_nothing_but_read(text: str, job: dict[str, Any]) -> None:
    """Its token reads the contents, and does not stay in the checkout for what the tests run."""
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}
    assert job["steps"][0]["with"] == {"persist-credentials": False}
