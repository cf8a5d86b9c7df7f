"""Reports: what is made of finished cases, one file each.

A report is told of the run, of each case in order, and of the end. It computes no verdict. What it writes
appears under its final name only when it is whole, and it keeps no list of cases in memory, so a run of a
hundred thousand cases costs no more than one of ten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

Record = Mapping[str, Any]


@dataclass(frozen=True)
class RunInfo:
    """What is the same for all cases of a run. `total` is None when it is not known beforehand."""

    version: str
    seed: int
    total: int | None
    out: Path


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
