"""results.json: every case, machine-readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import IO, ClassVar

from midstream.reports import Record, Report, RunInfo

SCHEMA = 1


class Results(Report):
    id: ClassVar[str] = "results"
    summary: ClassVar[str] = "results.json: all cases and a summary of verdicts"

    def begin(self, info: RunInfo) -> None:
        self._path = info.out / "results.json"
        self._part = info.out / "results.json.part"
        self._file: IO[str] = self._part.open("w", encoding="utf-8")
        self._first = True
        head = {"schema": SCHEMA, "midstream": info.version, "seed": info.seed}
        self._file.write(json.dumps(head)[:-1] + ', "cases": [')

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        self._file.write(("\n" if self._first else ",\n") + json.dumps(record, ensure_ascii=False))
        self._first = False

    def end(self, summary: Mapping[str, int]) -> None:
        self._file.write('\n], "summary": ' + json.dumps(dict(sorted(summary.items()))) + "}\n")
        self._file.close()
        self._part.replace(self._path)


MEMBER = Results
