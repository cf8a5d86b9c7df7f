"""Reports: what is made of finished cases, one file each.

A report is told of the run, of each case in order, and of the end. It computes no verdict. What it writes
appears under its final name only when it is whole, and it keeps no list of cases in memory, so a run of a
hundred thousand cases costs no more than one of ten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from midstream._errors import UsageError

Record = Mapping[str, Any]
_HEAD = 400  # bytes within which every report of ours says so


@dataclass(frozen=True)
class RunInfo:
    """What is the same for all cases of a run. `total` is None when it is not known beforehand.

    `calibration` is a table of how exact its injectors are here, the first row its head; `calibrated` says
    when and where that was measured.
    """

    version: str
    seed: int
    total: int | None
    out: Path
    calibration: Sequence[Sequence[str]] = ()
    calibrated: str = ""


class Report(ABC):
    """One form of report; a new instance per run."""

    id: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def begin(self, info: RunInfo) -> None: ...

    @abstractmethod
    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        """A finished case: its entry in results.json, and its evidence on demand; in the cases' order."""

    @abstractmethod
    def end(self, summary: Mapping[str, int]) -> None:
        """The run is over; `summary` counts the verdicts."""

    def discard(self) -> None:  # noqa: B027 - most reports that end at once leave nothing unfinished
        """Remove what is unfinished: the report cannot be completed. May be called at any time."""


def remove_earlier(path: Path, mark: bytes = b"midstream") -> None:
    """Remove the report of an earlier run: beside this one's files it would be a lie.

    Raises UsageError for a file of that name which is not ours: it does not have the mark at its beginning.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        return
    if head and mark not in head:  # one that a killed run left may be empty
        raise UsageError(
            f"--out: {path} is no report of midstream's and would be overwritten; use another folder"
        )
    path.unlink()


class Unfinished:
    """A file that gets its name when it is whole. Text of any origin can be written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        remove_earlier(path)
        self._part = path.with_name(f"{path.name}.part")
        # What UTF-8 cannot hold (half of a pair, off the wire or out of a file name) is written as an escape.
        self._file = self._part.open("w", encoding="utf-8", errors="backslashreplace")
        self.write = self._file.write
        self._finished = False

    def finish(self) -> None:
        """Make it whole. Raises OSError."""
        self._file.close()
        self._part.replace(self._path)
        self._finished = True

    def discard(self) -> None:
        """Remove it; nothing happens when it is finished."""
        if self._finished:
            return
        try:
            self._file.close()
        except OSError:
            pass  # what could not be written is of no use now
        self._part.unlink(missing_ok=True)
