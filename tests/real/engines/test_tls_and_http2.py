"""mitmproxy before clients that speak TLS and HTTP/2: its authority, exact cuts, streams that are reset."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from midstream._evidence import Facts, fold
from midstream._schedule import Schedule
from midstream.injectors import Plan, RunningInjector
from midstream.testing.injectors import layout, operation
from midstream.testing.wire import ScriptedOrigin

SIZE = 1_000_000
WHOLE = layout(f"/length?size={SIZE}").payload


@dataclass
class Seen:
    """What curl made of an answer, and what the evidence says of it."""

    version: str
    status: int
    data: bytes
    code: int  # its exit status
    facts: Facts


Get = Callable[..., Seen]


@pytest.fixture
def get(curl: str, mitmproxy: RunningInjector, store: ScriptedOrigin, tmp_path: Path) -> Get:
    """Fetches through mitmproxy over TLS."""

    def fetch(version: str, *specs: str, size: int = SIZE, more: Sequence[str] = ()) -> Seen:
        context = ssl.create_default_context()  # only says that TLS is wanted: mitmproxy has its own
        session = mitmproxy.open(Plan(store.address, Schedule.parse(specs), operation, tls=context))
        out = tmp_path / "out"
        out.write_bytes(b"")
        command = [curl, "-sS", version, "--cacert", str(session.bundle), "-o", str(out)]
        command += ["-w", "%{http_version} %{response_code}", "--max-time", "30", *more]
        done = subprocess.run(
            [*command, f"{session.url}/length?size={size}"], capture_output=True, text=True, check=False
        )
        words = done.stdout.split()
        return Seen(words[0], int(words[1]), out.read_bytes(), done.returncode, fold(session.close()))

    return fetch


VERSIONS = {"--http1.1": "1.1", "--http2": "2"}
PARTIAL, RESET, UNSENT, TIMED_OUT, STREAM, NO_TRUST = 18, 56, 55, 28, 92, 60  # curl's exit statuses


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [0, 1, 3_000_001])
def test_whole(get: Get, version: str, size: int) -> None:
    """With mitmproxy's authority trusted, an object comes whole over both versions."""
    seen = get(version, size=size)
    assert (seen.code, seen.version, seen.status) == (0, VERSIONS[version], 200)
    assert seen.data == layout(f"/length?size={size}").payload
    assert [(e.end, e.sent) for e in seen.facts.exchanges] == [("complete", size)]
    assert not seen.facts.trouble


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("ending", "code"), [("fin", PARTIAL), ("rst", RESET), ("notify", PARTIAL)])
@pytest.mark.parametrize("at", [1, 16_384, 65_537, 999_999])
def test_cuts(get: Get, version: str, ending: str, code: int, at: int) -> None:
    """Exactly the payload bytes before the position arrive, under encryption and in frames as well."""
    seen = get(version, f"GET cut@{at}:{ending}")
    if ending == "rst" and seen.code == UNSENT:
        # curl was about to send a frame when the reset came, and does not read what it has got before.
        assert WHOLE[:at].startswith(seen.data)
    else:
        assert (seen.code, seen.data) == (code, WHOLE[:at])
    assert [(f.body, f.offset) for f in seen.facts.fired] == [(at, at)]
    assert [(e.end, e.sent) for e in seen.facts.exchanges] == [("cut", at)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_stall(get: Get, version: str) -> None:
    """The bytes before it come, then none, and the stream is not ended either."""
    seen = get(version, "GET stall@500000", more=["--max-time", "1"])
    assert seen.code == TIMED_OUT
    assert seen.data == WHOLE[:500_000]
    assert len(seen.facts.fired) == 1


# RFC 9113 section 7: a client may ask again after REFUSED_STREAM (7), over HTTP/1.1 after code 13.
@pytest.mark.parametrize("code", [c for c in range(13) if c != 7])
def test_streams_are_reset(get: Get, code: int) -> None:
    """RST_STREAM at the byte with the code asked for; curl takes none of them for a whole object."""
    seen = get("--http2", f"GET reset-stream@500000:{code}")
    assert seen.code in (PARTIAL, STREAM)
    assert seen.data == WHOLE[:500_000]
    assert [f.body for f in seen.facts.fired] == [500_000]
    assert [(e.end, e.sent) for e in seen.facts.exchanges] == [("cut", 500_000)]
    assert not seen.facts.trouble


def test_codes_that_ask_for_more(get: Get) -> None:
    """After HTTP_1_1_REQUIRED, curl asks again over HTTP/1.1 and has the whole object."""
    seen = get("--http2", "GET#1 reset-stream@0:13")
    assert (seen.version, seen.code) == ("1.1", 0)
    assert seen.data.endswith(WHOLE)
    assert [(e.end, e.sent) for e in seen.facts.exchanges] == [("cut", 0), ("complete", SIZE)]


def test_a_reset_behind_the_last_byte(get: Get) -> None:
    """All bytes have come by then."""
    seen = get("--http2", "GET reset-stream@end:0")
    assert seen.data == WHOLE
    assert [f.body for f in seen.facts.fired] == [SIZE]


def test_there_is_no_stream_to_reset_in_http1(get: Get) -> None:
    """The rule finds no place and the object comes whole."""
    seen = get("--http1.1", "GET reset-stream@500000:0")
    assert (seen.code, seen.data) == (0, WHOLE)
    assert not seen.facts.fired
    assert seen.facts.unfired == {0: ["elsewhere"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_heads_and_payloads_change(get: Get, version: str) -> None:
    """Answers in the store's place, damaged bytes, a body that ends early: over both versions."""
    seen = get(version, "GET#1 status@head:503,body=busy")
    assert (seen.status, seen.data) == (503, b"busy")
    assert [(e.answered_by, e.sent) for e in seen.facts.exchanges] == [("injector", 4)]
    seen = get(version, "GET#1 flip@5000:2")
    assert [i for i in range(SIZE) if seen.data[i] != WHOLE[i]] == [5000]
    seen = get(version, "GET#1 truncate@5000:chunked")
    assert (seen.code, seen.data) == (0, WHOLE[:5000])


def test_what_http2_has_no_place_for(get: Get) -> None:
    """A pause in the middle of a stream is trouble of ours, not approximated."""
    seen = get("--http2", "GET delay@5000:1ms", more=["--max-time", "2"])
    assert any("no hold inside HTTP/2" in text for text in seen.facts.trouble)


def test_a_driver_that_does_not_trust(curl: str, mitmproxy: RunningInjector, store: ScriptedOrigin) -> None:
    """It says so, and the case is ours to set right, not a finding about the driver."""
    plan = Plan(store.address, Schedule([]), operation, tls=ssl.create_default_context())
    session = mitmproxy.open(plan)
    done = subprocess.run([curl, "-sS", session.url], capture_output=True, check=False)
    assert done.returncode == NO_TRUST
    assert fold(session.close()).trouble == ["the driver does not trust mitmproxy's certificate"]
