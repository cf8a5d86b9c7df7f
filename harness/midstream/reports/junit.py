"""junit.xml: the form CI systems read."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, ClassVar
from xml.sax.saxutils import escape, quoteattr

from midstream._verdict import FINE, Verdict
from midstream.reports import Record, Report, RunInfo, Unfinished

_SKIPPED = (Verdict.NOT_APPLICABLE, Verdict.NOT_REACHED)
# XML 1.0 allows no other control characters, not even escaped; what came off the wire may hold any.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    return _ILLEGAL.sub("?", text)


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


class JUnit(Report):
    id: ClassVar[str] = "junit"
    summary: ClassVar[str] = "junit.xml: failures break a MUST, errors are the harness's own"

    def begin(self, info: RunInfo) -> None:
        self._whole = Unfinished(info.out / "junit.xml")
        # The counts come first in the file and are known last, so the cases wait in a file without a name.
        self._cases: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", dir=info.out)  # noqa: SIM115
        self._counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
        self._seconds = 0.0

    def case(self, record: Record, evidence: Callable[[], Record]) -> None:
        self._counts["tests"] += 1
        self._seconds += record["seconds"]
        said = ": ".join(part for part in (record["verdict"], record["diagnosis"]) if part)
        text = "; ".join(part for part in (said, record["note"]) if part)
        message, replay = _attribute(text), escape(_clean(record["replay"]))
        inner = ""
        if record["level"] == "harness":
            self._counts["errors"] += 1
            inner = f"<error message={message}>{replay}</error>"
        elif record["verdict"] in _SKIPPED:
            self._counts["skipped"] += 1
            inner = f"<skipped message={message}/>"
        elif not record["expected"]:
            self._counts["failures"] += 1
            inner = f"<failure message={message}>{replay}</failure>"
        elif record["verdict"] not in FINE:
            inner = f"<system-out>{escape(_clean(text))}</system-out>"
        suite = f"{record['driver']}.{record['store']}.{record['injector']}"
        name = f"{record['scenario']}[{record['variant']}]" if record["variant"] else record["scenario"]
        self._cases.write(
            f"<testcase classname={_attribute(suite)} name={_attribute(name)} "
            f'time="{record["seconds"]:.3f}">{inner}</testcase>\n'
        )

    def end(self, summary: Mapping[str, int]) -> None:
        counts = " ".join(f'{k}="{v}"' for k, v in self._counts.items())
        out = self._whole
        out.write('<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n')
        out.write(f'<testsuite name="midstream" {counts} time="{self._seconds:.3f}">\n')
        self._cases.seek(0)
        shutil.copyfileobj(self._cases, out)
        out.write("</testsuite>\n</testsuites>\n")
        self._cases.close()
        out.finish()

    def discard(self) -> None:
        if hasattr(self, "_whole"):
            self._whole.discard()
        if hasattr(self, "_cases"):
            with contextlib.suppress(OSError):  # a full disk; left to the collector it would be told
                self._cases.close()


MEMBER = JUnit
