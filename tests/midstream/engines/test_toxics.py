"""Faults said in toxics, and what toxiproxy is not asked for."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator

import pytest

from midstream._errors import HarnessError
from midstream._schedule import Schedule
from midstream._verbs import Close, Ending, Hold, Pace, Verb
from midstream.injectors._toxics import Api, Due, Toxic, milliseconds, refusals, resets, toxics
from midstream.injectors.toxiproxy import begun, is_stale, namespace
from midstream.testing.wire import Peer, ScriptedOrigin


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("GET cut@5:half", "half-close"),
        ("GET cut@5:notify", "close_notify"),
        ("GET status@head:503", "respond"),
        ("GET flip@5:1", "rewrite"),
        ("GET ignore-range@request", "editrequest"),
        ("GET reset-stream@5:0", "resetstream"),
        ("GET interim@head:103", "send"),
        ("GET stall@5:300ms", "pause in the middle"),
        ("GET delay@head+1:1s", "pause in the middle"),
        ("GET delay@wire+9:1s", "pause in the middle"),
        ("GET throttle@5:1MiB", "from the first byte"),
        ("GET throttle@head:999", "kB/s"),
        ("PUT cut@body+1:fin", "asked for twice"),
        ("publish_object cut@status-line:rst", "asked for twice"),
        ("abort_upload cut@last-header:rst", "asked for twice"),
    ],
)
def test_what_is_not_carried(line: str, word: str) -> None:
    """Each thing a TCP proxy cannot do exactly is refused with its reason, also among others."""
    reason = refusals(Schedule.parse(["GET cut@1:rst", line]))
    assert reason
    assert word in reason


@pytest.mark.parametrize(
    "line",
    [
        "GET cut@5:fin",
        "get_object#2 cut@50%:rst",
        "* cut@head",
        "GET cut@status-line:rst",
        "head_object cut@status-line:rst",
        "GET cut@end-1",
        "PUT cut@head:rst",
        "GET cut@request:rst",
        "GET stall@5",
        "GET stall@request:forever",
        "GET delay@head:80ms",
        "GET delay@request:80ms",
        "GET throttle@head:64KiB",
        "GET kill@50%",
        "GET replace@50%:same",
        "CONNECTION#1 hangup@accept:rst",
        "CONNECTION#2 refuse@accept:1s",
    ],
)
def test_what_is_carried(line: str) -> None:
    """What limits, delays and closes a connection is carried, and what is not the wire's."""
    assert refusals(Schedule.parse([line])) is None


def test_resets_are_told() -> None:
    """A schedule with a reset anywhere is known, for resets are tried first."""
    assert resets(Schedule.parse(["GET cut@1", "CONNECTION#1 hangup@accept:rst"]))
    assert not resets(Schedule.parse(["GET cut@1", "GET stall@5"]))


def said(*due: tuple[int, Verb] | Due) -> list[str]:
    """The toxics for what is due, each as one word."""
    chain = toxics([d if isinstance(d, Due) else Due(*d) for d in due])
    return [
        "/".join([t.type, t.stream, *(f"{n}={v}" for n, v in t.attributes), f"{t.toxicity:g}"]) for t in chain
    ]


FOREVER = "slow_close/downstream/delay=1000000000000/1"


def test_endings_in_toxics() -> None:
    """A FIN is a limit; a reset also needs a linger of zero and to be held until all has arrived."""
    assert said((7, Close(Ending.FIN))) == ["limit_data/downstream/bytes=7/1"]
    assert said((7, Close(Ending.RST))) == [
        "limit_data/downstream/bytes=7/1",
        FOREVER,
        "reset_peer/downstream/timeout=0/0",
    ]
    assert said((7, Hold(None))) == ["limit_data/downstream/bytes=7/1", FOREVER]


def test_what_lies_behind_an_ending_is_left_out() -> None:
    """The first ending is the last toxic, what is due before it comes before it."""
    chain = said((0, Hold(0.08)), (0, Pace(65_536)), (9, Close(Ending.FIN)), (9, Hold(None)))
    assert chain == [
        "latency/downstream/latency=80/1",
        "bandwidth/downstream/rate=65/1",
        "limit_data/downstream/bytes=9/1",
    ]


def test_before_the_request() -> None:
    """What fires at the request keeps it from the store."""
    assert said(Due(0, Close(Ending.FIN), True)) == ["timeout/upstream/timeout=1/1"]
    assert said(Due(0, Close(Ending.RST), True)) == [
        "timeout/upstream/timeout=1/1",
        "reset_peer/upstream/timeout=0/0",
    ]
    assert said(Due(0, Hold(None), True)) == ["timeout/upstream/timeout=0/1"]
    assert said(Due(0, Hold(0.5), True)) == ["latency/upstream/latency=500/1"]


@pytest.mark.parametrize(("seconds", "want"), [(0.08, 80), (0.0801, 81), (1, 1000), (0.0001, 1), (0, 0)])
def test_milliseconds(seconds: float, want: int) -> None:
    """A delay is never shorter than asked for."""
    assert milliseconds(seconds) == want


def test_toxics_of_one_proxy_have_names_of_their_own() -> None:
    """toxiproxy refuses two toxics of one name."""
    names = [t.as_json()["name"] for t in toxics([Due(3, Close(Ending.RST))])]
    assert len(set(names)) == len(names)
    assert Toxic("latency", stream="upstream").as_json()["name"] == "latency-upstream"


def test_stale_proxies_are_told_by_their_owner() -> None:
    """Only a proxy of ours whose owner here has gone, or whose number is another's by now, is stale."""
    here, space = begun(os.getpid()), namespace()
    assert not is_stale(f"midstream-{space}-{os.getpid()}-{here}-1")
    assert is_stale(f"midstream-{space}-{os.getpid()}-{int(here or 0) + 1}-1")
    assert is_stale(f"midstream-{space}-999999999-5-1")
    assert not is_stale(f"midstream-{space + 1}-999999999-5-1")
    assert not is_stale("mysql")
    assert not is_stale("midstream-of-mine")


@pytest.fixture
def answers() -> list[bytes]:
    return []


@pytest.fixture
def api(answers: list[bytes]) -> Iterator[Api]:
    """An API whose answers a test gives."""

    def script(peer: Peer) -> None:
        while head := peer.head():
            peer.body(head)
            peer.send(answers.pop(0))

    origin = ScriptedOrigin(script)
    yield Api(*origin.address)
    origin.stop()


def reply(status: str, body: object) -> bytes:
    text = body if isinstance(body, str) else json.dumps(body)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def test_a_proxy_is_armed_before_its_address_is_known(api: Api, answers: list[bytes]) -> None:
    """The address comes from the server, and only once every toxic is in force."""
    answers += [reply("201 Created", {"listen": "127.0.0.1:4711"}), reply("200 OK", {})]
    assert api.create("p", ("127.0.0.1", 80), [Toxic("latency")]) == ("127.0.0.1", 4711)
    assert not answers


def test_refusals_of_the_server_are_told(api: Api, answers: list[bytes]) -> None:
    """What toxiproxy says is in the message, with what it was asked."""
    answers.append(reply("409 Conflict", '{"error":"proxy already exists"}'))
    with pytest.raises(HarnessError, match=r"POST /proxies gave 409.*already exists"):
        api.create("p", ("127.0.0.1", 80))


def test_removing_what_is_gone(api: Api, answers: list[bytes]) -> None:
    """A proxy that somebody else has removed is well."""
    answers.append(reply("404 Not Found", {"error": "proxy not found"}))
    api.remove("p")


def test_a_server_that_is_not_there() -> None:
    """The message says where nobody answers."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(HarnessError, match=f"does not answer at 127.0.0.1:{port}"):
            Api("127.0.0.1", port).proxies()
