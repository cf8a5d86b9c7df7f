"""Digests taken behind the transfer's back are those of the bytes in the sink."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

import pytest

from reknit import Integrity, SinkError, download
from reknit._filesink import FileSink
from reknit._hashing import Hashing

DATA = random.Random(2).randbytes(6 << 20)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with more than one."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})


def reread(offset: int, buffer: memoryview) -> int:
    """A sink that gives a little at a time."""
    part = DATA[offset : offset + min(len(buffer), 100_000)]
    buffer[: len(part)] = part
    return len(part)


@pytest.mark.parametrize("step", [1 << 20, 777_777, len(DATA)])
@pytest.mark.parametrize("behind", [True, False])
def test_digests(step: int, behind: bool) -> None:
    """All algorithms at once, however the bytes come; more may come after the first answer."""
    hashing = Hashing(("md5", "sha256", "crc32"), reread if behind else None)
    half = len(DATA) - 1_000_000
    for end, until in ((0, half), (half, len(DATA))):
        for at in range(end, until, step):
            hashing.update(DATA[at : min(at + step, until)])
        for name in ("md5", "sha256"):
            assert hashing.hexdigest(name) == hashlib.new(name, DATA[:until]).hexdigest()
    hashing.close()
    hashing.close()


def test_little_needs_no_thread() -> None:
    """A small object is hashed in passing, and the sink is not read."""

    def never(offset: int, buffer: memoryview) -> int:
        raise AssertionError

    hashing = Hashing(("md5",), never)
    hashing.update(DATA[:1000])
    assert hashing.hexdigest("md5") == hashlib.md5(DATA[:1000]).hexdigest()
    assert Hashing(()).close() is None


@pytest.mark.parametrize("short", [True, False])
def test_a_sink_that_cannot_be_read(short: bool) -> None:
    """What reading it raised comes out where the digest is asked for, and nothing hangs."""

    def broken(offset: int, buffer: memoryview) -> int:
        if short:
            return 0
        raise SinkError("cannot read the partial")

    hashing = Hashing(("md5",), broken)
    hashing.update(DATA)
    with pytest.raises(SinkError, match=r"cannot read|shorter"):
        hashing.hexdigest("md5")
    hashing.close()


def test_closed_in_the_midst_of_it() -> None:
    """Closing ends the thread wherever it is; after that the sink is not read."""
    asked = []

    def slow(offset: int, buffer: memoryview) -> int:
        asked.append(offset)
        return reread(offset, buffer)

    hashing = Hashing(("sha256",), slow)
    hashing.update(DATA)
    hashing.close()
    count = len(asked)
    hashing.close()
    assert len(asked) == count


def test_a_download(origin, whole, say, fast, tmp_path) -> None:
    """A download, cut and continued, is verified over what is in the file; a wrong byte there is found."""
    head = whole(DATA)
    expect = "sha256:" + hashlib.sha256(DATA).hexdigest()
    origin.script = [say(head[: len(head) - 500_000], "fin")]
    origin.then = lambda asked: say(whole(DATA, asked))
    report = download(origin.url(), tmp_path / "dest", options=replace(fast, expect=expect))
    assert report.verified == "sha256 (expected by the caller)"
    assert (report.resumes, report.bytes_refetched) == (1, 0)
    assert (tmp_path / "dest").read_bytes() == DATA


def test_a_byte_that_rots_in_the_file(origin, whole, say, fast, tmp_path, monkeypatch) -> None:
    """P6: it is the sink that is verified, not what the network gave."""
    expect = "sha256:" + hashlib.sha256(DATA).hexdigest()
    origin.then = lambda asked: say(whole(DATA, asked))
    honest = FileSink.reread

    def rotten(self: FileSink, offset: int, buffer: memoryview) -> int:
        size = honest(self, offset, buffer)
        buffer[0] ^= 1
        return size

    monkeypatch.setattr(FileSink, "reread", rotten)
    with pytest.raises(Integrity):
        download(origin.url(), tmp_path / "dest", options=replace(fast, expect=expect))
    assert list(tmp_path.iterdir()) == []
