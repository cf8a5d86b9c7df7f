"""`midstream calibrate` over the injector that is always there, and what it says of one that is not exact."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from midstream import _calibrate, _calibration
from midstream._calibrate import RawClient
from midstream._calibration import BEGIN, END, Calibration, Measured, Row
from midstream._errors import HarnessError, SetupError, UsageError
from midstream._registry import Availability
from midstream.injectors.embedded import Embedded
from midstream.testing.wire import Peer, ScriptedOrigin


def calibration(*rows: Row) -> Calibration:
    one = Measured("embedded", "", list(rows), 0.001, 0.002, 5e8)
    return Calibration("a machine", "2020-01-01", 3, 1e9, 0.0001, [one])


def test_measured_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial of the embedded injector is exact, and the report is whole."""
    monkeypatch.setattr(_calibrate, "LARGE", 1 << 20)
    monkeypatch.setattr(_calibrate, "ROUNDS", 5)
    monkeypatch.setattr(_calibrate, "ARMED_ROUNDS", 3)
    told: list[str] = []
    found = _calibrate.calibrate(["embedded"], 4, told.append)
    _calibration.check(found)
    (one,) = found.injectors
    assert [(r.ending, r.trials, r.exact) for r in one.rows] == [
        (ending, 4, 4) for ending in ("fin", "rst", "half", "stall")
    ]
    assert one.rate > 0
    assert found.direct_latency > 0
    assert told == [f"embedded: {w}" for w in ("fin", "rst", "half", "stall", "times")]
    _calibration.write(found, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert record["schema"] == 1
    assert record["injectors"][0]["rows"][0]["exact"] == 4
    assert "| `embedded` | bundled | 4 of 4 |" in (tmp_path / "out" / "calibration.md").read_text()


@pytest.mark.parametrize(
    ("row", "cell"),
    [
        (Row("fin", 3, 3), "3 of 3"),
        (Row("fin", 3, 1, {-7: 1, 2: 1}), "1 of 3, worst -7 bytes"),
        (Row("fin", 3, 2, wrong_end=1), "2 of 3, 1 wrong endings"),
        (Row("fin", 3, 2, trouble=1), "2 of 3, 1 seen as inexact"),
        (Row("half", reason="it cannot"), "not carried"),
    ],
)
def test_cells(row: Row, cell: str) -> None:
    """A table says how often and how far off."""
    assert f"| {cell} |" in _calibration.markdown(calibration(row))


def test_what_was_measured_last(tmp_path: Path) -> None:
    """What was written is read back the same; what is none of ours counts as nothing."""
    found = calibration(Row("fin", 3, 1, {-7: 1, 2: 1}), Row("half", reason="it cannot"))
    assert _calibration.read(tmp_path) is None
    _calibration.write(found, tmp_path / "calibration")
    assert _calibration.read(tmp_path) == found
    for text in ("", "[]", "{}", '{"schema": 1, "injectors": [{}]}', '{"schema": 1, "injectors": 3}'):
        (tmp_path / "calibration" / "calibration.json").write_text(text)
        assert _calibration.read(tmp_path) is None


def test_what_is_known_of_an_injector() -> None:
    """Its figures, of the version that is here and no other; else what to do."""
    endings = (Row("fin", 3, 3), Row("rst", 3, 3), Row("half", reason="it cannot"), Row("stall", 3, 3))
    found = calibration(*endings)
    here, there = found.injectors[0], Measured("other", "1.0")
    found.injectors.append(there)
    assert _calibration.measured(found, "embedded", "") == (here, "")
    assert _calibration.line(here) == (
        "exact: fin 3 of 3, rst 3 of 3, half not carried, stall 3 of 3; 1.00 ms added to an answer, 500 MB/s"
    )
    none, old = "not calibrated here; midstream calibrate", "calibrated as 1.0, which is not the one here"
    assert _calibration.measured(None, "embedded", "") == (None, none)
    assert _calibration.measured(found, "absent", "") == (None, none)
    assert _calibration.measured(found, "other", "1.1") == (None, f"{old}; midstream calibrate")
    cells = ["3 of 3", "3 of 3", "not carried", "3 of 3", "1.00 ms", "2.0 ms", "500 MB/s"]
    assert _calibration.rows(found, {"embedded": "", "other": "1.1"})[1:] == [
        ["embedded", "bundled", *cells],
        ["other", "1.1", f"{old}; midstream calibrate"],
    ]


def test_what_is_not_exact_is_an_error() -> None:
    """An ending that is carried and not exact ends the command as our own error; one not carried does not."""
    with pytest.raises(HarnessError, match="not exact here: embedded rst: 1 of 2, worst -5 bytes"):
        _calibration.check(calibration(Row("rst", 2, 1, {-5: 1})))
    _calibration.check(calibration(Row("half", reason="it cannot")))


def test_an_injector_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs, and the message says what to do."""
    missing = Availability(False, "not installed", "midstream install it")
    monkeypatch.setattr(Embedded, "available", lambda _: missing)
    with pytest.raises(SetupError, match="injector embedded: not installed; midstream install it"):
        _calibrate.calibrate(["embedded"], 1)


def test_between_the_markers(tmp_path: Path) -> None:
    """Only what stands between the markers is replaced; a file without them is named."""
    page = tmp_path / "engines.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nbehind\n")
    _calibration.put_into(page, "new\n")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nbehind\n"
    page.write_text("nothing\n")
    with pytest.raises(UsageError, match="no <!-- calibration -->"):
        _calibration.put_into(page, "new\n")
    with pytest.raises(UsageError, match="No such file"):
        _calibration.put_into(tmp_path / "absent", "new\n")


@pytest.fixture
def server() -> Iterator[ScriptedOrigin]:
    def script(peer: Peer) -> None:
        head = peer.head()
        assert head
        peer.send(b"HTTP/1.1 200 OK\r\n")
        peer.send(b"Content-Length: 10\r\n\r\n12345")
        if head.request[1] == "/more":
            peer.send(b"67890")
        if head.request[1] == "/reset":
            peer.reset()
        elif head.request[1] != "/cut":
            peer.more()

    origin = ScriptedOrigin(script)
    yield origin
    origin.stop()


@pytest.mark.parametrize(
    ("path", "body", "end"), [("/cut", 5, "eof"), ("/reset", 5, "reset"), ("/more", 10, "open")]
)
def test_the_raw_client_counts(server: ScriptedOrigin, path: str, body: int, end: str) -> None:
    """Payload bytes behind the head, however it came, and the end."""
    with RawClient(server.address[1]) as client:
        client.ask(path)
        got = client.take(10)
        assert (got.body, got.end) == (body, end)
        assert end != "open" or client.quiet()


def test_the_source_sends_what_it_says() -> None:
    """The server for throughput answers with the whole of its file, again and again."""
    source = _calibrate.Source()
    try:
        with RawClient(source.port) as client:
            for _ in range(2):
                client.ask("/")
                assert client.take(_calibrate.LARGE).body == _calibrate.LARGE
    finally:
        source.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", source.port), 1)
