"""What every check keeps to. Subclass `CheckContract` and name the check:

    class TestMine(CheckContract):
        check = "mine"

A check is a pure function of what was seen: it has to bear anything that can be seen, find nothing in a run
without fault or blemish, and say the same each time.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar

import pytest

from midstream._content import Run
from midstream._evidence import Exchange, Facts, Fired
from midstream._judge import judge
from midstream._registry import load
from midstream._verdict import FINE, Expectation, Finding, Outcome, Seen, Sink, Verdict
from midstream.checks import Check

_LEVELS = ("must", "should", "observe")


def spotless(size: int = 1000) -> Seen:
    """One request, one whole response, the exact file."""
    get = Exchange(1, 1, "GET", "/o", "get_object", [], 200, 0, size, size, size + 200, "complete")
    sink = Sink(True, size, (Run(0, size, 1),) if size else ())
    return Seen(Expectation(), Outcome("ok"), sink, Facts([get], [], {}, [], 1), size)


def strange() -> list[Seen]:
    """What can be seen in runs that went every other way."""
    base = spotless()
    get = base.facts.exchanges[0]
    cut = Fired(0, "GET cut@400", 1, 600, 400, 400)
    odd = [
        replace(get, number=n, base=b, sent=s, status=code, length=None, end="cut")
        for n, (b, s, code) in enumerate([(None, 0, 503), (0, 400, 200), (5000, 10, 206), (0, 0, 0)], 1)
    ]
    facts = [
        Facts([], [], {}, [], 0),
        Facts(odd, [cut], {}, [], 4),
        Facts(odd * 50, [cut, replace(cut, rule=1)], {2: ["ended"]}, [], 300),
    ]
    sinks = [Sink(False), Sink(True), Sink(True, 9, (Run(0, 9, -1),), ("a", "b")), base.sink]
    outcomes = [Outcome(said, "words") for said in ("ok", "failed", "hang", "crash")]
    sizes = (0, 1000)
    return [
        Seen(Expectation(kind=kind), o, s, f, n)
        for kind in _LEVELS
        for o in outcomes
        for s in sinks
        for f in facts
        for n in sizes
    ]


class CheckContract:
    """Rules for checks. `check` is the id."""

    check: ClassVar[str]

    @pytest.fixture
    def member(self) -> Check:
        """The check."""
        member: Check = load("checks", self.check)
        return member

    def test_says_what_it_checks(self, member: Check) -> None:
        """It has its file's name, a sentence, and the properties it grounds."""
        assert member.id == self.check
        assert member.summary
        assert member.properties
        assert all(re.fullmatch(r"P\d+", p) for p in member.properties)

    def test_spotless(self, member: Check) -> None:
        """In a run without blemish it finds nothing."""
        for size in (0, 1, 1000):
            assert member.check(spotless(size)) is None

    def test_anything(self, member: Check) -> None:
        """Whatever is seen, it gives None or a finding in words that breaks something, the same each time."""
        for seen in strange():
            found = member.check(seen)
            assert found == member.check(seen)
            if found is not None:
                assert isinstance(found, Finding)
                assert isinstance(found.verdict, Verdict)
                assert found.verdict not in FINE
                assert found.level in _LEVELS
                assert found.text
                assert "\n" not in found.text

    def test_is_heard(self, member: Check) -> None:
        """A finding of it reaches the verdict of a run that is right otherwise."""
        for seen in strange():
            found = member.check(seen)
            if (
                found
                and found.level != "observe"
                and seen.outcome.said == "ok"
                and seen.sink == spotless().sink
            ):
                judged = judge(replace(seen, findings=[found], expect=Expectation(), object_size=1000))
                if not seen.facts.unfired:
                    assert judged.verdict is found.verdict
