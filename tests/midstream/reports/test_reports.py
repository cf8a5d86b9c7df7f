"""Reports are whole or absent, hold everything that was found, and bear any text."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from midstream._errors import UsageError
from midstream._registry import load, names
from midstream._verdict import Verdict
from midstream.reports import Report, RunInfo, Unfinished
from midstream.testing.reports import HOSTILE, ReportContract, hostile, record, tell


class TestResults(ReportContract):
    report = "results"
    writes = ("results.json",)


class TestJUnit(ReportContract):
    report = "junit"
    writes = ("junit.xml",)


class TestHtml(ReportContract):
    report = "html"
    writes = ("index.html",)


class TestCases(ReportContract):
    report = "cases"
    writes = ()


def test_none_is_forgotten() -> None:
    """A new report gets a class here."""
    assert set(names("reports")) == {c.report for c in ReportContract.__subclasses__()}


def report(name: str, out: Path, cases: list[dict[str, Any]]) -> str:
    member = load("reports", name)()
    tell(member, out, cases)
    written = {"results": "results.json", "junit": "junit.xml", "html": "index.html"}
    return (out / written[name]).read_text(encoding="utf-8")


EACH = [record(n, v) for n, v in enumerate(Verdict, 1)]


def test_results(tmp_path: Path) -> None:
    """Everything a case's record holds, under the schema's keys, and the counts."""
    found = json.loads(report("results", tmp_path, EACH))
    assert list(found) == ["schema", "midstream", "seed", "cases", "summary"]
    assert (found["schema"], found["midstream"], found["seed"]) == (1, "0.1", 7)
    assert found["cases"] == EACH
    assert found["summary"] == {v.value: 1 for v in sorted(Verdict, key=lambda v: v.value)}


def test_results_hostile(tmp_path: Path) -> None:
    """What goes in as text comes out as the same text."""
    case = hostile()
    (found,) = json.loads(report("results", tmp_path, [case]))["cases"]
    assert found == case


def test_junit(tmp_path: Path) -> None:
    """Failures break a MUST, errors are ours, what says nothing is skipped; the counts agree."""
    cases = [
        record(1),
        record(2, Verdict.TRUNCATED, diagnosis="400 of 1,000 bytes"),
        record(3, Verdict.HARNESS_ERROR, diagnosis="the store died"),
        record(4, Verdict.NOT_REACHED, diagnosis="x: never reached"),
        record(5, Verdict.TRUNCATED, expected=True, note="known failure: because"),
        record(6, Verdict.PASS, expected=False, note="listed as a known failure, but passes: because"),
        record(7, Verdict.RESTARTED, level="should", expected=True, diagnosis="20 bytes again", variant=""),
    ]
    suite = ET.fromstring(report("junit", tmp_path, cases)).find("testsuite")
    assert suite is not None
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "7",
        "failures": "2",
        "errors": "1",
        "skipped": "1",
        "time": "1.750",
    }
    kinds = [[child.tag for child in case] for case in suite]
    assert kinds == [[], ["failure"], ["error"], ["skipped"], ["system-out"], ["failure"], ["system-out"]]
    assert suite[1][0].get("message") == "truncated: 400 of 1,000 bytes"
    assert suite[1][0].text == cases[1]["replay"]
    assert suite[5][0].get("message") == "pass; listed as a known failure, but passes: because"
    assert suite[1].get("name") == "a-cut[at=2]"
    assert suite[6].get("name") == "a-cut"
    assert suite[1].get("classname") == "reknit.origin.embedded"


def test_junit_hostile(tmp_path: Path) -> None:
    """XML allows few control characters even escaped; the file is well-formed all the same."""
    text = report("junit", tmp_path, [hostile(n, v) for n, v in enumerate(Verdict, 1)])
    suite = ET.fromstring(text).find("testsuite")
    assert suite is not None
    assert len(suite) == len(Verdict)
    assert "<script>" in suite[0].get("name", "")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)


class Page(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("href", "src") or k.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html(tmp_path: Path) -> None:
    """Damage with its replay line first, our own trouble before all, then every scenario, then the words."""
    page = Page(
        report("html", tmp_path, [record(1), record(2, Verdict.TRUNCATED), record(3, Verdict.HARNESS_ERROR)])
    )
    text = " ".join(page.text)
    assert text.index("midstream replay 'a-cut[at=3]'") < text.index("midstream replay 'a-cut[at=2]'")
    assert "midstream replay 'a-cut[at=1]'" not in text
    assert page.links == [f"cases/a-cut.at%3D{n}.reknit.origin.embedded.json" for n in (3, 2)]


def test_html_hostile(tmp_path: Path) -> None:
    """Nothing off the wire becomes a tag, a link or an expression."""
    text = report("html", tmp_path, [hostile(n, v) for n, v in enumerate(Verdict, 1)])
    page = Page(text)
    assert "script" not in page.tags
    assert "{{ 7*7 }}" in text
    assert "49" not in text.replace("4917", "")
    assert all(link.startswith("cases/") for link in page.links)


def test_html_is_bounded(tmp_path: Path) -> None:
    """Ten thousand failures are counted, not shown."""
    text = report("html", tmp_path, [record(n, Verdict.TRUNCATED) for n in range(1000)])
    assert text.count('<div class="card') == 200
    assert "800 more failing cases" in text


def test_cases(tmp_path: Path) -> None:
    """One file per case with its evidence, under the name its record gives."""
    tell(load("reports", "cases")(), tmp_path, [*EACH, hostile(99)])
    for case in EACH:
        found = json.loads((tmp_path / case["evidence"]).read_text(encoding="utf-8"))
        assert found["id"] == case["id"]
        assert found["requirement"] == "A rule."
    (odd,) = tmp_path.glob("cases/*at=99*")
    assert json.loads(odd.read_text(encoding="utf-8"))["diagnosis"] == HOSTILE


def test_unfinished(tmp_path: Path) -> None:
    """A file has its name when it is whole, and not before; a part is removed, and what had the name."""
    path = tmp_path / "a.txt"
    file = Unfinished(path)
    file.write("midstream: one")
    assert not path.exists()
    file.finish()
    assert path.read_text() == "midstream: one"
    again = Unfinished(path)
    again.write("two")
    again.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["results", "junit", "html", "cases"])
def test_folder_that_goes_away(tmp_path: Path, name: str) -> None:
    """A report that cannot be written raises the reason, and lets itself be discarded."""
    out = tmp_path / "out"
    out.mkdir()
    member: Report = load("reports", name)()
    member.begin(RunInfo("0.1", 7, 1, out))
    for path in [*out.glob("*.part"), *out.glob("cases")]:
        path.rmdir() if path.is_dir() else path.unlink()
    out.rmdir()

    def finish() -> None:
        if name == "cases":
            member.case(record(), dict)
        member.end({})

    with pytest.raises(OSError, match="No such file"):
        finish()
    member.discard()


@pytest.mark.parametrize("name", ["index.html", "junit.xml", "results.json", "cases/mine.json"])
def test_what_is_not_ours_is_not_overwritten(tmp_path: Path, name: str) -> None:
    """A folder with a file of the same name that somebody else made is refused, and the file stays."""
    (tmp_path / "cases").mkdir()
    (tmp_path / name).write_text("{}")
    member = {"index.html": "html", "junit.xml": "junit", "results.json": "results"}.get(name, "cases")
    with pytest.raises(UsageError, match=f"{tmp_path / name} is no report"):
        load("reports", member)().begin(RunInfo("1", 0, 1, tmp_path))
    assert (tmp_path / name).read_text() == "{}"
    (tmp_path / name).write_text("")  # of a run that was killed
    load("reports", member)().begin(RunInfo("1", 0, 1, tmp_path))
    assert not (tmp_path / name).exists()
