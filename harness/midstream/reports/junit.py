"""junit.xml: the form CI systems read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from typing import IO, ClassVar
from xml.sax.saxutils import escape, quoteattr

from midstream._verdict import FINE, Verdict
from midstream.reports import Record, Report, RunInfo

_SKIPPED = (Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED)
# XML 1.0 allows no other control characters, not even escaped; what came off the wire may hold any.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnit(Report):
    id: ClassVar[str] = "junit"
    summary: ClassVar[str] = "junit.xml: failures break a MUST, errors are the harness's own"

    def begin(self, info: RunInfo) -> None:
        self._path = info.out / "junit.xml"
        self._part = info.out / "junit.xml.part"
        self._file: IO[str] = self._part.open("w", encoding="utf-8")
        self._counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        self._seconds = 0.0

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        self._counts["tests"] += 1
        self._seconds += record["seconds"]
        text = _ILLEGAL.sub("?", f"{record['verdict']}: {record['diagnosis']}")
        inner = ""
        if record["level"] == "harness":
            self._counts["errors"] += 1
            inner = f"<error message={quoteattr(text)}>{escape(record['replay'])}</error>"
        elif record["verdict"] in _SKIPPED:
            self._counts["skipped"] += 1
            inner = f"<skipped message={quoteattr(text)}/>"
        elif not record["expected"]:
            self._counts["failures"] += 1
            inner = f"<failure message={quoteattr(text)}>{escape(record['replay'])}</failure>"
        elif record["verdict"] not in FINE:
            inner = f"<system-out>{escape(text)}</system-out>"
        suite = f"{record['driver']}.{record['store']}.{record['injector']}"
        name = f"{record['scenario']}[{record['variant']}]" if record["variant"] else record["scenario"]
        self._file.write(
            f"<testcase classname={quoteattr(suite)} name={quoteattr(name)} "
            f'time="{record["seconds"]:.3f}">{inner}</testcase>\n'
        )

    def end(self, summary: Mapping[str, int]) -> None:
        self._file.close()
        counts = " ".join(f'{k}="{v}"' for k, v in self._counts.items())
        whole = self._path.with_suffix(".xml.whole")
        with whole.open("w", encoding="utf-8") as out, self._part.open(encoding="utf-8") as cases:
            out.write('<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n')
            out.write(f'<testsuite name="midstream" {counts} time="{self._seconds:.3f}">\n')
            shutil.copyfileobj(cases, out)
            out.write("</testsuite>\n</testsuites>\n")
        self._part.unlink()
        whole.replace(self._path)


MEMBER = JUnit
