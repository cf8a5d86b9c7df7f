"""What every report keeps to. Subclass `ReportContract` and name the report:

class TestMine(ReportContract):
    report = "mine"
    writes = ("mine.txt",)   # what lies in the folder after a run
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from midstream._registry import load
from midstream._verdict import Verdict
from midstream.reports import Report, RunInfo

# Off the wire, out of file names and command lines: whatever can be in a text.
HOSTILE = "<script>alert(1)</script> & \"'] ]]> --> \x00\x1b[31m\x85 \udcff \U0001f4a5 ../../x {{ 7*7 }} %s"


def record(number: int = 1, verdict: Verdict = Verdict.PASS, **other: Any) -> dict[str, Any]:
    """A case as reports are told of it."""
    level = "harness" if verdict is Verdict.HARNESS_ERROR else "must" if verdict is Verdict.TRUNCATED else ""
    return {
        "id": f"a-cut[at={number}]:reknit:origin:embedded",
        "scenario": "a-cut",
        "variant": f"at={number}",
        "driver": "reknit",
        "driver_version": "1.0",
        "store": "origin",
        "injector": "embedded",
        "kind": "must",
        "verdict": verdict.value,
        "level": level,
        "properties": ["P1"],
        "diagnosis": "",
        "object_bytes": 1000,
        "body_bytes": 1000,
        "requests": 2,
        "seconds": 0.25,
        "expected": level in ("", "harness"),
        "note": "",
        "evidence": f"cases/a-cut.at={number}.reknit.origin.embedded.json",
        "replay": f"midstream replay 'a-cut[at={number}]' --driver reknit",
        **other,
    }


def hostile(number: int = 1, verdict: Verdict = Verdict.TRUNCATED) -> dict[str, Any]:
    """A case whose every text is hostile."""
    texts = (
        "id",
        "scenario",
        "variant",
        "driver",
        "driver_version",
        "store",
        "injector",
        "diagnosis",
        "note",
    )
    return record(number, verdict, **dict.fromkeys(texts, HOSTILE), replay=f"midstream replay {HOSTILE}")


def evidence(of: dict[str, Any]) -> dict[str, Any]:
    """The evidence of a case."""
    said = {"said": "failed", "error": of["diagnosis"]}
    return {**of, "requirement": of["diagnosis"] or "A rule.", "driver_said": said, "events": []}


def tell(report: Report, out: Path, cases: Iterable[dict[str, Any]], *, end: bool = True) -> None:
    """A run of these cases."""
    report.begin(RunInfo("0.1", 7, None, out))
    counts: Counter[str] = Counter()
    for case in cases:
        report.case(case, lambda case=case: evidence(case))  # type: ignore[misc]
        counts[case["verdict"]] += 1
    if end:
        report.end(dict(counts))


def files(folder: Path) -> dict[str, bytes]:
    """What lies below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class ReportContract:
    """Rules for reports. `report` is the id, `writes` the files of a run (cases/ aside)."""

    report: ClassVar[str]
    writes: ClassVar[tuple[str, ...]]

    @pytest.fixture
    def member(self) -> type[Report]:
        """The report's class; one instance is one run."""
        member: type[Report] = load("reports", self.report)
        return member

    def written(self, folder: Path) -> set[str]:
        return {name for name in files(folder) if not name.startswith("cases/")}

    def test_says_what_it_is(self, member: type[Report]) -> None:
        """It has its file's name and a sentence."""
        assert member.id == self.report
        assert member.summary

    def test_writes(self, member: type[Report], tmp_path: Path) -> None:
        """Its files are there after a run, all of them, and nothing unfinished beside them."""
        tell(member(), tmp_path, [record(1), record(2, Verdict.TRUNCATED), record(3, Verdict.HARNESS_ERROR)])
        assert self.written(tmp_path) == set(self.writes)

    def test_run_without_cases(self, member: type[Report], tmp_path: Path) -> None:
        """A run that was interrupted before its first case has a whole report as well."""
        tell(member(), tmp_path, [])
        assert self.written(tmp_path) == set(self.writes)

    def test_hostile_text(self, member: type[Report], tmp_path: Path) -> None:
        """Nothing off the wire can break it, and its files are UTF-8."""
        tell(member(), tmp_path, [hostile(n, v) for n, v in enumerate(Verdict, 1)])
        for name, data in files(tmp_path).items():
            data.decode("utf-8")
            assert ".." not in Path(name).parts

    def test_the_one_before_goes(self, member: type[Report], tmp_path: Path) -> None:
        """As soon as a new one begins: beside the cases of the new run it would be no report of them."""
        tell(member(), tmp_path, [record(1)])
        assert files(tmp_path)
        second = member()
        second.begin(RunInfo("0.1", 7, None, tmp_path))
        assert [name for name in files(tmp_path) if not name.endswith(".part")] == []
        second.discard()
        second.discard()
        assert files(tmp_path) == {}

    def test_same_again(self, member: type[Report], tmp_path: Path) -> None:
        """Equal runs give equal files."""
        contents = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            tell(member(), tmp_path / name, [record(n, v) for n, v in enumerate(Verdict, 1)])
            contents.append(files(tmp_path / name))
        assert contents[0] == contents[1]

    def test_discard_at_any_time(self, member: type[Report]) -> None:
        """A report that never began has nothing to discard."""
        member().discard()

    def test_memory(self, member: type[Report], tmp_path: Path) -> None:
        """It keeps no list of cases: the last thousand cost no more memory than any before."""
        import gc
        import tracemalloc

        report = member()
        report.begin(RunInfo("0.1", 7, None, tmp_path))
        grown: list[int] = []
        for first in range(0, 3000, 1000):
            gc.collect()
            tracemalloc.start()
            for n in range(first, first + 1000):
                report.case(case := record(n, Verdict.TRUNCATED), lambda case=case: evidence(case))  # type: ignore[misc]
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
        report.discard()
        # A list would grow in each round; what other threads of the test run allocate comes and goes.
        assert min(grown[1:]) < 100_000
