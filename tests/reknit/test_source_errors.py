"""A source that cannot be read to its end once the upload has begun, by every way to store an object."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.reknit.test_upload_stores import DATA, PART, Place, _moto, _swift, _swift_s3

from midstream.stores.origin import MEMBER
from reknit import Options, SourceError, upload
from reknit._upload_journal import records

EIO = OSError(errno.EIO, os.strerror(errno.EIO))


def _http(kind: str) -> Callable[[Path], Place]:
    def start(tmp: Path) -> Place:
        origin = MEMBER.start(tmp)
        return Place(
            kind,
            f"http://127.0.0.1:{origin.port}/object",
            Options(store={"upload": kind}),
            lambda: origin.read("object") if origin.stat("object") else None,
            lambda: origin.orphans("object"),
            origin.stop,
            lambda: origin.clear("object"),
        )

    return start


def _file(tmp: Path) -> Place:
    target = tmp / "object"
    return Place(
        "file",
        target.as_uri(),
        Options(),
        lambda: target.read_bytes() if target.exists() else None,
        lambda: [path.name for path in tmp.iterdir() if path != target],
        lambda: None,
        lambda: target.unlink(missing_ok=True),
    )


STORES = {"moto": _moto, "swift": _swift, "swift-s3": _swift_s3, "file": _file}
STORES |= {kind: _http(kind) for kind in ("put", "ietf", "tus")}


@pytest.fixture(scope="module", params=STORES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Each store, started once."""
    running = STORES[request.param](tmp_path_factory.mktemp("store"))
    yield running
    running.stop()


class Rotten(io.BytesIO):
    """A disk with a bad place, as a file object of its own kind."""

    name = "the tape"

    def __init__(self, data: bytes, bad: int) -> None:
        super().__init__(data)
        self._bad = bad

    def read(self, size: int | None = -1, /) -> bytes:
        assert size
        if self.tell() <= self._bad < self.tell() + size:
            raise EIO
        return super().read(size)


def rotten_file(path: Path, bad: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file on such a disk."""
    path.write_bytes(DATA)
    inode, real = path.stat().st_ino, os.preadv

    def preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if os.fstat(fd).st_ino == inode and offset <= bad < offset + sum(map(len, buffers)):
            raise EIO
        return real(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", preadv)
    return path


@pytest.mark.parametrize("bad", [0, PART // 2, 2 * PART + 500, len(DATA) - 1])
@pytest.mark.parametrize("what", ["object", "file"])
def test_a_bad_place(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, bad: int
) -> None:
    """P42: the error names source and cause; what was there before still is, and nothing else; no record."""
    place.delete()
    options = replace(place.options, part_size=PART, backoff_base=0, keep=True, journal=tmp_path / "journal")
    before = b"what was there before" if bad else None
    if before:
        upload(io.BytesIO(before), place.url, options=options)
    file = rotten_file(tmp_path / "the tape", bad, monkeypatch) if what == "file" else Rotten(DATA, bad)
    with pytest.raises(SourceError, match=r"cannot read .*the tape: Input/output error"):
        upload(file, place.url, options=options)
    assert place.read() == before
    assert place.leftovers() == []
    assert records(tmp_path / "journal") == []


@pytest.mark.parametrize("how", ["truncated", "unlinked"])
def test_a_source_that_vanishes(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """P42: cut off, or removed, once a part of it was read; nothing is published."""
    place.delete()
    path = tmp_path / "source"
    path.write_bytes(DATA)
    inode, real = path.stat().st_ino, os.preadv

    def preadv(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        got = real(fd, buffers, offset, flags)
        if path.exists() and os.fstat(fd).st_ino == inode:
            os.truncate(path, 1000) if how == "truncated" else path.unlink()
        return got

    monkeypatch.setattr(os, "preadv", preadv)
    options = replace(place.options, part_size=PART, backoff_base=0, keep=True, journal=tmp_path / "journal")
    with pytest.raises(SourceError, match=r"shrunk|changed" if how == "truncated" else "removed"):
        upload(path, place.url, options=options)
    assert (place.read(), place.leftovers(), records(tmp_path / "journal")) == (None, [], [])
