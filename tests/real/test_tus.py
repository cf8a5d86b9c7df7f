"""reknit uploads to tusd, the reference server of tus, over connections that break: by tus, and by the IETF's
draft, of which tusd speaks an older version than the store `origin`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.reknit.test_resumable_wire import CONTENT, Relay

from midstream._parts import find
from midstream._processes import ServerProcess
from midstream.stores._hosted import launch
from midstream.stores._starting import own_folder
from reknit import Exhausted, Options, upload


class Tusd:
    """A server with its data."""

    def __init__(self, server: ServerProcess, data: Path) -> None:
        self.port, self._data = server.ready["port"], data

    def holds(self) -> list[bytes]:
        """What it has, of each upload."""
        return [path.read_bytes() for path in sorted(self._data.iterdir()) if not path.suffix]


@pytest.fixture
def tusd(tmp_path: Path) -> Iterator[Tusd]:
    found = find("tusd")
    if not found:
        text = f"tusd: {found.reason}; {found.hint}"
        if os.environ.get("MIDSTREAM_CI"):
            pytest.fail(text)
        pytest.skip(text)
    own = own_folder("tusd", tmp_path)
    data = own / "data"
    data.mkdir()
    arguments = ["-host", "127.0.0.1", "-port", "{port}", "-upload-dir", str(data), "-base-path", "/files/"]
    arguments.append("-enable-experimental-protocol")
    server = launch(found, own, arguments, {"HOME": str(own)}, "/")
    yield Tusd(server, data)
    server.stop()


def options(tmp_path: Path, kind: str, **more: int) -> Options:
    return Options(store={"upload": kind}, journal=tmp_path / "journal", backoff_base=0.05, **more)


KINDS = pytest.mark.parametrize("kind", ["tus", "ietf"])


@KINDS
@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
def test_undisturbed(tusd: Tusd, tmp_path: Path, kind: str, size: int) -> None:
    """Any size arrives as it is."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT[:size])
    report = upload(source, f"http://127.0.0.1:{tusd.port}/files/", options=options(tmp_path, kind))
    assert (report.bytes, report.resent) == (size, 0)
    assert tusd.holds() == [CONTENT[:size]]


@KINDS
def test_cut_and_resumed(tusd: Tusd, tmp_path: Path, kind: str) -> None:
    """Three cuts in the middle of a request, and it is one upload that is exact."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    relay = Relay(tusd.port, [1_000_000, 700_000, 1_100_000])
    upload(source, f"{relay.url}/files/", options=options(tmp_path, kind))
    relay.close()
    assert relay.cut.is_set()
    assert tusd.holds() == [CONTENT]


@KINDS
def test_a_later_call_goes_on(tusd: Tusd, tmp_path: Path, kind: str) -> None:
    """What one call left, when the line stayed broken, is continued by the next and not sent again."""
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    relay = Relay(tusd.port, [1_500_000, *[0] * 9])
    with pytest.raises(Exhausted):
        upload(source, f"{relay.url}/files/", options=options(tmp_path, kind, attempts=3))
    relay.heal()
    report = upload(source, f"{relay.url}/files/", options=options(tmp_path, kind))
    relay.close()
    assert 0 < report.reused < len(CONTENT)
    assert report.resent == 0
    assert tusd.holds() == [CONTENT]
