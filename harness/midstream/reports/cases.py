"""cases/<id>.json: the evidence of each case."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import ClassVar

from midstream.reports import Record, Report, RunInfo, remove_earlier


class Cases(Report):
    id: ClassVar[str] = "cases"
    summary: ClassVar[str] = "cases/<id>.json: the evidence of each case"

    def begin(self, info: RunInfo) -> None:
        self._out = info.out
        folder = info.out / "cases"
        folder.mkdir(exist_ok=True)
        for old in folder.glob("*.json"):  # what an earlier run left is no evidence of this one
            remove_earlier(old, b'{"id": "')

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        text = json.dumps(evidence(), ensure_ascii=False) + "\n"
        # What UTF-8 cannot hold (half of a pair, off the wire or out of a file name) is written as an escape.
        (self._out / record["evidence"]).write_text(text, encoding="utf-8", errors="backslashreplace")

    def end(self, summary: Mapping[str, int]) -> None:
        pass


MEMBER = Cases
