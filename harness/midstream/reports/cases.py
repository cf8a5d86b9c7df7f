"""cases/<id>.json: the evidence of each case."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import ClassVar

from midstream.reports import Record, Report, RunInfo, Unfinished


class Cases(Report):
    id: ClassVar[str] = "cases"
    summary: ClassVar[str] = "cases/<id>.json: the evidence of each case"

    def begin(self, info: RunInfo) -> None:
        self._out = info.out
        (info.out / "cases").mkdir(exist_ok=True)

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        file = Unfinished(self._out / record["evidence"])
        try:
            file.write(json.dumps(evidence(), ensure_ascii=False) + "\n")
            file.finish()
        finally:
            file.discard()

    def end(self, summary: Mapping[str, int]) -> None:
        pass


MEMBER = Cases
