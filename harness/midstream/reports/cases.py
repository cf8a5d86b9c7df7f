"""cases/<id>.json: the evidence of each case."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import ClassVar

from midstream.reports import Record, Report, RunInfo


class Cases(Report):
    id: ClassVar[str] = "cases"
    summary: ClassVar[str] = "cases/<id>.json: the evidence of each case"

    def begin(self, info: RunInfo) -> None:
        self._out = info.out
        (info.out / "cases").mkdir(exist_ok=True)

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        path = self._out / record["evidence"]
        path.write_text(json.dumps(evidence(), ensure_ascii=False) + "\n", encoding="utf-8")

    def end(self, summary: Mapping[str, int]) -> None:
        pass


MEMBER = Cases
