"""The scripts and the Makefile: set-up from nothing and again, the demonstration, the picture."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# --- tools/setup, in a copy of the checkout with a Python that only writes down what it is asked

FAKE = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
  "-c import sys"*) exit ${OLD:-0} ;;
  "-c import ensurepip"*) exit ${BARE:-0} ;;
  --version) echo "Python 3.9.1" ;;
  "-m venv .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *"-r requirements-dev.lock"*) exit ${OFFLINE:-0} ;;
esac
"""
NEEDED = ("sh", "bash", "env", "dirname", "cat", "sha256sum", "cut", "mkdir", "cp")


class Checkout:
    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder / "checkout"
        (self.folder / "tools").mkdir(parents=True)
        shutil.copy2(root / "tools/setup", self.folder / "tools")
        for name in ("requirements-dev.lock", "pyproject.toml"):
            shutil.copy(root / name, self.folder)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in NEEDED:
            found = shutil.which(name)
            assert found
            (self.bin / name).symlink_to(found)
        self.program("id", "echo 1000")  # nobody who could install a package
        self.program("python3", FAKE)
        self.log = folder / "log"

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def setup(self, **env: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        self.log.write_text("")
        given = {"PATH": str(self.bin), "LOG": str(self.log), **env}
        done = subprocess.run(
            [str(self.folder / "tools/setup")], env=given, cwd="/", capture_output=True, text=True, timeout=60
        )
        return done, [line for line in self.log.read_text().splitlines() if "-m " in line]


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Checkout:
    return Checkout(root, tmp_path)


def test_setup(checkout: Checkout) -> None:
    """From nothing it makes the environment, by hashes, then installs the checkout; again it does nothing."""
    done, asked = checkout.setup()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert asked[0] == "-m venv .venv"
    assert "--require-hashes -r requirements-dev.lock" in asked[1]
    assert asked[2].endswith("--no-deps --no-build-isolation -e .")
    done, asked = checkout.setup()
    assert (done.returncode, done.stdout, done.stderr, asked) == (0, "", "", [])


@pytest.mark.parametrize("name", ["requirements-dev.lock", "pyproject.toml"])
def test_setup_after_a_change(checkout: Checkout, name: str) -> None:
    """A changed lock or project is installed into the environment that is there."""
    checkout.setup()
    with (checkout.folder / name).open("a") as file:
        file.write("\n# changed\n")
    done, asked = checkout.setup()
    assert done.returncode == 0
    assert [line.split()[1] for line in asked] == ["pip", "pip"]
    assert checkout.setup()[1] == []


def test_setup_that_was_interrupted(checkout: Checkout) -> None:
    """A failure of the installation is the script's, and the next call goes on with it."""
    done, _ = checkout.setup(OFFLINE="7")
    assert done.returncode == 7
    done, asked = checkout.setup()
    assert done.returncode == 0
    assert len(asked) == 2


def test_setup_with_an_environment_that_lost_its_python(checkout: Checkout) -> None:
    """An environment whose interpreter has gone is made again."""
    checkout.setup()
    (checkout.folder / ".venv/bin/python").unlink()
    (checkout.folder / ".venv/bin/python").symlink_to("/nowhere/python3")
    (checkout.bin / "python3").write_text(FAKE.replace("&& cp", "&& rm -f .venv/bin/python && cp"))
    (checkout.bin / "rm").symlink_to(shutil.which("rm") or "")
    done, asked = checkout.setup()
    assert (done.returncode, asked[0]) == (0, "-m venv .venv")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OLD": "1"}, "Python 3.9.1 is too old; 3.11 or newer is needed (set PYTHON=...)"),
        ({"BARE": "1"}, "this Python has no venv module (Debian: apt-get install python3-venv)"),
        ({"PYTHON": "python9"}, "python9 is not installed (Debian: apt-get install python3 python3-venv)"),
    ],
)
def test_setup_without_what_it_needs(checkout: Checkout, env: dict[str, str], words: str) -> None:
    """What is missing is said in one line with what to do, as a matter of set-up, and nothing is made."""
    done, asked = checkout.setup(**env)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"setup: {words}\n")
    assert asked == []
    assert not (checkout.folder / ".venv").exists()


# --- Makefile


def test_make(root: Path) -> None:
    """Every target is one that make can plan, and sets up first what it needs."""
    text = (root / "Makefile").read_text(encoding="utf-8")
    phony = text.partition(".PHONY:")[2].partition("\n")[0].split()
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    for target in phony:
        plan = subprocess.run(["make", "-n", target], cwd=root, env=env, capture_output=True, text=True)
        assert plan.returncode == 0, plan.stderr
        assert plan.stdout
        if ".venv/bin" in plan.stdout and target not in ("clean", "lock"):
            assert plan.stdout.startswith("tools/setup")


# --- demonstration and picture


def case(driver: str, verdict: str, level: str = "", **more: str) -> dict[str, str]:
    return {
        "driver": driver,
        "store": "origin",
        "scenario": "a-cut",
        "verdict": verdict,
        "level": level,
        "diagnosis": "100 of 200 bytes [of it]",
        "replay": "midstream replay a-cut",
        **more,
    }


CAUGHT = [case("reknit", "pass"), case("naive", "pass"), case("naive", "truncated", "must")]


@pytest.mark.parametrize(
    ("status", "cases", "want"),
    [
        (1, CAUGHT, 0),
        (0, CAUGHT[:2], 1),
        (1, [*CAUGHT, case("reknit", "truncated", "must")], 1),
        (1, [*CAUGHT, case("reknit", "restarted", "should")], 1),
        (2, [], 2),
        (3, [], 3),
        (130, [], 130),
    ],
)
def test_demo(
    tool: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    cases: list[dict[str, str]],
    want: int,
) -> None:
    """It succeeds when reknit is right everywhere and naive is caught; a failure of the run is passed on."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        out = Path(words[words.index("--out") + 1])
        out.mkdir()
        (out / "results.json").write_text(json.dumps({"cases": cases}))
        return subprocess.CompletedProcess(words, status)

    demo = tool("demo")
    monkeypatch.setattr(demo.subprocess, "run", run)
    assert demo.main() == want
    said = capsys.readouterr().out
    if want == 0:
        assert "truncated         a-cut on origin: 100 of 200 bytes" in said
        assert "again: midstream replay a-cut" in said
        assert "reknit: 1 of 1 judged cases as they should be, on 1 stores" in said
        assert "naive:  1 cases break a MUST." in said


def test_picture(tool: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture shows verdicts and an example, and fetches nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "midstream-out").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "midstream-out/results.json").write_text(json.dumps({"cases": CAUGHT}))
    assert tool("picture").main() == 0
    svg = (tmp_path / "docs/run.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "truncated" in svg
    assert "[of&#160;it]" in svg, "what looks like markup is shown as it is"
    for word in ("@font-face", "url(http", "@import"):
        assert word not in svg
    assert " \n" not in svg


def test_the_picture_in_the_checkout(root: Path) -> None:
    """The picture of the README is of a run, is small, and fetches nothing."""
    svg = (root / "docs/run.svg").read_text(encoding="utf-8")
    assert "reknit" in svg
    assert "naive" in svg
    assert "@font-face" not in svg
    assert len(svg) < 200_000
