"""Fault lines and schedules: what they say, how they count, and when they heal."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream._operations import METHODS, OPERATIONS
from midstream._positions import PLACES
from midstream._registry import members, names
from midstream._schedule import BadSpec, Ordinals, Rule, Schedule
from midstream._verbs import Ending
from midstream.faults import seconds, seconds_text
from midstream.faults.cut import Cut
from midstream.faults.delay import Delay
from midstream.faults.hangup import Hangup
from midstream.faults.refuse import RefuseConnections
from midstream.faults.stall import Stall
from midstream.faults.status import Status
from midstream.faults.throttle import Throttle

DURATION = st.floats(0, 1e9, allow_nan=False).filter(lambda s: s == 0 or s > 1e-4).map(lambda s: round(s, 9))
TEXT = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=20)
FAULTS = {
    "cut": st.builds(Cut, st.sampled_from(Ending)),
    "delay": st.builds(Delay, DURATION),
    "hangup": st.builds(Hangup, st.sampled_from([Ending.FIN, Ending.RST])),
    "refuse": st.builds(RefuseConnections, st.none() | DURATION),
    "stall": st.builds(Stall, st.none() | DURATION),
    "status": st.builds(
        Status,
        st.integers(200, 599),
        st.lists(st.tuples(st.sampled_from(["Retry-After", "Location", "X-A"]), TEXT), max_size=3).map(tuple),
        st.none() | st.binary(max_size=40),
    ),
    "throttle": st.builds(Throttle, st.integers(1, 1 << 40)),
}
WHO = st.sampled_from(["*", *METHODS, *OPERATIONS])
PATH = st.sampled_from(["", "/", "/bucket/*", "/a/b%20c", "/[ab]?x/*"])
ORDINAL = st.one_of(
    st.just(""),
    st.just("#*"),
    st.integers(1, 99).map(lambda n: f"#{n}"),
    st.integers(1, 99).map(lambda n: f"#{n}+"),
    st.tuples(st.integers(1, 50), st.integers(0, 50)).map(lambda t: f"#{t[0]}-{t[0] + t[1]}"),
)
POSITION = st.one_of(
    st.integers(0, 1 << 50).map(str),
    st.integers(0, 100).map(lambda n: f"{n}%"),
    st.sampled_from(
        ["body+5", "wire+17", "end-1", "50%-1", *(p for p in PLACES if p not in ("accept", "request"))]
    ),
)


def schedule(*lines: str) -> Schedule:
    return Schedule.parse(lines)


@given(st.data(), WHO, PATH, ORDINAL, POSITION)
def test_lines_round_trip(data: st.DataObject, who: str, path: str, ordinal: str, position: str) -> None:
    """Any rule is written as one line that reads back to the same rule."""
    name = data.draw(st.sampled_from(sorted(FAULTS)))
    fault: Any = data.draw(FAULTS[name])
    if name in ("hangup", "refuse"):
        who, path, position = "CONNECTION", "", "accept"
    if name == "status":
        position = "head"
    value = f":{fault.value}" if fault.value else ""
    line = f"{who}{path}{ordinal} {name}@{position}{value}"
    rule = Rule.parse(line)
    assert rule.fault == fault
    assert "\n" not in str(rule)
    assert Rule.parse(str(rule)) == rule
    assert str(Rule.parse(str(rule))) == str(rule)


def test_ids_do_not_clash() -> None:
    """No two members share an id."""
    ids = [member.id for _, member in members("faults")]
    assert sorted(set(ids)) == sorted(ids) == list(names("faults"))


@given(DURATION)
def test_durations_round_trip(value: float) -> None:
    """A duration is written exactly, without an exponent."""
    assert seconds(seconds_text(value)) == value


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), ("1.5s", 1.5), ("200ms", 0.2), ("0", 0.0), ("1234567.5s", 1234567.5)]
)
def test_durations(text: str, value: float) -> None:
    """Seconds are the unit; ms divides by a thousand."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "-1s", "1m", "1e3", "1.s", ".5", "inf", "nan", "1 s", "1s "])
def test_other_durations_are_refused(text: str) -> None:
    """What is no duration is refused with two that are."""
    with pytest.raises(ValueError, match=r"is no duration; use 1.5s or 200ms"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        ("#1", {1}),
        ("#3", {3}),
        ("#2-4", {2, 3, 4}),
        ("#4+", {4, 5, 6, 7, 8}),
        ("#*", set(range(1, 9))),
        ("#7-7", {7}),
    ],
)
def test_ordinals_count_matching_requests(text: str, matched: set[int]) -> None:
    """A rule is in force at the requests its ordinal names, and fires at each of them."""
    plan = schedule(f"GET{text} cut@5")
    fired = set()
    for number in range(1, 9):
        plan.request("HEAD", "/k", "head_object")  # not counted
        for armed in plan.request("GET", "/k", "get_object"):
            assert plan.fire(armed)
            assert not plan.fire(armed), "once a request"
            fired.add(number)
    assert fired == matched
    assert plan.counters[0].matched == 8
    assert plan.counters[0].fired == len(matched)


@pytest.mark.parametrize(("text", "written"), [("#1+", "#*"), ("#2-2", "#2"), ("", ""), ("#01", "#1")])
def test_ordinals_have_one_spelling(text: str, written: str) -> None:
    """Ordinals that mean the same are equal and written the same."""
    assert str(Rule.parse(f"GET{text} cut@5").ordinals) == written


def test_ordinals_directly() -> None:
    """The ordinal alone: membership and the default that fires once."""
    assert Ordinals.parse(None) == Ordinals(1, None, once=True)
    assert 5 in Ordinals.parse("5")
    assert 6 not in Ordinals.parse("5")
    assert 0 not in Ordinals.parse("*")


def test_without_an_ordinal_a_rule_heals() -> None:
    """Armed for every request until one fires it, then for none; a second one in flight is told no."""
    plan = schedule("get_object cut@5")
    assert [len(plan.request("GET", "/k", "get_object")) for _ in range(3)] == [1, 1, 1]
    (one,), (two,) = (plan.request("GET", "/k", "get_object") for _ in range(2))
    assert plan.fire(two)
    assert not plan.fire(one)
    assert plan.request("GET", "/k", "get_object") == []


def test_who() -> None:
    """A method, an operation or any request; never a connection."""
    plan = schedule(
        "GET#* cut@1", "get_object#* cut@2", "*#* cut@3", "PUT#* cut@4", "CONNECTION hangup@accept"
    )
    assert [a.index for a in plan.request("GET", "/k", "get_object")] == [0, 1, 2]
    assert [a.index for a in plan.request("PUT", "/k", "other")] == [2, 3]
    assert [a.index for a in plan.request("CONNECTION", "/k", "other")] == [2]
    assert [a.index for a in plan.connection()] == [4]


@pytest.mark.parametrize(
    ("path", "target", "matches"),
    [
        ("/b/k", "/b/k", True),
        ("/b/k", "/b/k?versionId=1", True),
        ("/b/k", "/b/kk", False),
        ("/b/*", "/b/k/l", True),
        ("/b/*", "/c/k", False),
        ("/b/?", "/b/k", True),
        ("/b/[kl]", "/b/m", False),
        ("/B/K", "/b/k", False),
        ("", "/anything", True),
    ],
)
def test_paths_are_globs(path: str, target: str, matches: bool) -> None:
    """A path is a case-sensitive glob over the target without its query."""
    plan = schedule(f"GET{path} cut@5")
    assert bool(plan.request("GET", target, "get_object")) is matches


def test_refusals() -> None:
    """The rule that refuses the next connection, until it has fired."""
    plan = schedule("CONNECTION#2 refuse@accept:300ms", "CONNECTION#1 hangup@accept")
    assert plan.refusals(0) == []
    (refusal,) = plan.refusals(1)
    assert refusal.index == 0
    assert plan.fire(refusal)
    assert plan.refusals(1) == []


def test_aim_keeps_the_rest() -> None:
    """Percentages become offsets once the size is known, nothing else changes."""
    plan = schedule("GET#2 cut@50%:rst", "GET stall@end-1")
    assert [str(r) for r in plan.aim(1001).rules] == ["GET#2 cut@500:rst", "GET stall@end-1:forever"]
    assert plan.aim(None).rules == plan.rules


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "not of the form WHO[/PATH][#ORDINAL] FAULT@POSITION[:VALUE]"),
        ("cut@5", "not of the form"),
        ("GET cut", "not of the form"),
        ("Get cut@5", "not of the form"),
        ("GET#x cut@5", "not of the form"),
        ("GET#1-x cut@5", "not of the form"),
        ("GET#0 cut@5", "ordinals start at 1"),
        ("GET#2-1 cut@5", "the first ordinal comes first"),
        ("GET#3-2 cut@5", "#3-2 counts no request"),
        ("get_objekt cut@5", "no operation 'get_objekt'; did you mean get_object or "),
        ("_ cut@5", "no operation '_'"),
        ("FROB#1 cut@5", "no HTTP method 'FROB' (known: GET, HEAD, "),
        ("FROB#1 cut@5", "PURGE, TCP, CONNECTION)"),
        ("PROPFINDS cut@5", "no HTTP method 'PROPFINDS'; did you mean PROPFIND"),
        ("CONNECTIONS refuse@accept", "did you mean CONNECTION or CONNECT"),
        ("GET kut@5", "no fault is called 'kut'; did you mean cut"),
        ("GET cut@nowhere", "'nowhere' is no position"),
        ("GET cut@5:gently", "not 'gently'"),
        ("GET cut@5:", "not ''"),
        ("GET delay@head", "a delay needs its duration"),
        ("GET delay@head:soon", "'soon' is no duration"),
        ("GET throttle@head", "a throttle needs its rate"),
        ("GET throttle@head:0", "a throttle needs its rate"),
        ("GET throttle@head:5GiB", "a throttle needs its rate"),
        ("GET status@head", "'' is no final status"),
        ("GET status@head:100", "'100' is no final status"),
        ("GET status@head:503,Retry-After", "'Retry-After' is no header field"),
        ("GET status@head:503,A b=1", "'A b=1' is no header field"),
        ("GET status@head:503,A=1%0d%0aB: 2", "would not stay one header field"),
        ("GET status@5:503", "status is written WHO[#ORDINAL] status@head:STATUS"),
        ("GET status@head+1:503", "status is written"),
        ("CONNECTION cut@5", "not at CONNECTION"),
        ("GET stall@accept", "not at CONNECTION"),
        ("GET hangup@accept", "hangup is written CONNECTION[#ORDINAL] hangup@accept"),
        ("CONNECTION hangup@5", "hangup is written"),
        ("CONNECTION hangup@accept:half", "a hangup ends by fin or rst, not 'half'"),
        ("CONNECTION refuse@accept:never", "'never' is no duration"),
    ],
)
def test_bad_lines_say_what_is_wrong(line: str, says: str) -> None:
    """A line that does not read is refused with itself and the reason, on one line."""
    with pytest.raises(BadSpec, match=re.escape(says)) as caught:
        Rule.parse(line)
    assert repr(line) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadSpec, match=re.escape(repr(line))):
        schedule("GET cut@5", line)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("GET status@head:503,body=", b""),
        ("GET status@head:204", None),
        ("GET status@head:200,body=a%2Cb", b"a,b"),
    ],
)
def test_status_bodies(line: str, body: bytes | None) -> None:
    """No body, an empty one and one with a comma are told apart and written back."""
    rule = Rule.parse(line)
    assert getattr(rule.fault, "body") == body  # noqa: B009
    assert str(rule) == line


def test_blanks_at_the_end_of_a_body_are_kept() -> None:
    """A fault line is read without outer blanks, so a body's last one is written out."""
    fault = Status(503, (), b"wait ")
    assert Rule.parse(f"GET status@head:{fault.value}").fault == fault
