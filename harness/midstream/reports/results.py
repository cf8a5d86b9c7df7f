"""results.json: every case, machine-readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import ClassVar

from midstream.reports import Record, Report, RunInfo, Unfinished

SCHEMA = 1


class Results(Report):
    id: ClassVar[str] = "results"
    summary: ClassVar[str] = "results.json: all cases and a summary of verdicts"

    def begin(self, info: RunInfo) -> None:
        self._file = Unfinished(info.out / "results.json")
        self._first = True
        head = {"schema": SCHEMA, "midstream": info.version, "seed": info.seed}
        self._file.write(json.dumps(head)[:-1] + ', "cases": [')

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        self._file.write(("\n" if self._first else ",\n") + json.dumps(record, ensure_ascii=False))
        self._first = False

    def end(self, summary: Mapping[str, int]) -> None:
        self._file.write('\n], "summary": ' + json.dumps(dict(sorted(summary.items()))) + "}\n")
        self._file.finish()

    def discard(self) -> None:
        if hasattr(self, "_file"):
            self._file.discard()


MEMBER = Results
