"""The command line as a user has it: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

CULPRITS = Path(__file__).parents[1] / "runner" / "culprits.py"
HEAD = 'requirement = "A driver does what it is asked to do here."\nproperties = ["P1"]\n'
CUT = HEAD + 'faults = ["get_object cut@{at}"]\nvary.at = [20000]\n'


@dataclass
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


class Box:
    """A folder with scenarios, a temporary folder, and commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temp = folder / "temp"
        self.scenarios = folder / "scenarios"
        self.out = folder / "out"
        for path in (self.temp, self.scenarios):
            path.mkdir()
        self.running: list[subprocess.Popen[str]] = []

    def scenario(self, name: str = "a-cut", text: str = CUT) -> None:
        (self.scenarios / f"{name}.toml").write_text(text)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temp), "COLUMNS": "200", **env}

    def start(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "midstream", *words],
            cwd=self.folder,
            env=self.environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def __call__(self, *words: str, env: Mapping[str, str] | None = None) -> Done:
        process = self.start(*words, env=env)
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)

    def run(self, *words: str, driver: str = "right", env: Mapping[str, str] | None = None) -> Done:
        """`midstream run` of the folder's scenarios on the origin."""
        return self("run", *self.usual(driver), *words, env=env)

    def usual(self, driver: str) -> list[str]:
        named = driver if ":" in driver or driver in ("reknit", "naive") else f"py:{CULPRITS}:{driver}"
        where = ["--scenario-dir", str(self.scenarios), "--out", str(self.out)]
        return ["--driver", named, "--store", "origin", "-j", "2", *where]

    def leftovers(self) -> list[str]:
        """What a run left: temporary files, and processes that were given this folder's TMPDIR."""
        mark = f"TMPDIR={self.temp}".encode()
        found = [str(p.relative_to(self.folder)) for p in self.temp.rglob("*")]
        found += [p.name for p in self.folder.rglob("*.part")]
        for process in psutil.process_iter():
            try:
                environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
                if any(entry == mark or entry.startswith(b"TMPDIR=" + bytes(self.temp)) for entry in environ):
                    found.append(" ".join(process.cmdline()))
            except (OSError, psutil.Error):
                pass
        return found

    def end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.end()
