"""Several ranges at once: one version, no hole, whole or not at all, whatever breaks."""

from __future__ import annotations

import base64
import errno
import hashlib
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reknit import CallerError, Changed, Exhausted, Integrity, Options, Progress, Refused, Report, SinkError
from reknit._filesink import Disk, FileSink
from reknit._parallel import fill
from reknit._plan import range_size
from reknit._ranges import WHOLE, Slice
from reknit.testing import Reply, Server, StoreFault, cut

DATA = random.Random(1).randbytes(100_000)
OPTIONS = Options(
    parallel=3, parallel_above=0, range_bytes=9_000, attempts=3, sleep=lambda seconds: None, restarts=2
)


def fetch(
    server: Server,
    dest: Path,
    options: Options = OPTIONS,
    part: Slice = WHOLE,
    disk: Disk | None = None,
    progress: list[Progress] | None = None,
) -> Report:
    """Into a file, as `download` does it."""
    with FileSink(dest, "it", options, disk) as sink:
        report = fill(server.store, sink, options, progress.append if progress is not None else None, part)
        sink.publish()
    return report


def ranges(server: Server) -> list[tuple[int, int]]:
    """What was asked for, ascending; every GET must be a range under the tag."""
    lines = [line.split() for line in server.store.asked if line != "HEAD"]
    assert all(len(words) == 4 for words in lines), server.store.asked
    spans = [tuple(map(int, words[1].split("-"))) for words in lines]
    return sorted((first, last) for first, last in spans)


def leftovers(dest: Path) -> list[Path]:
    return [path for path in dest.parent.iterdir() if path != dest]


@pytest.mark.parametrize("parallel", [2, 3, 8])
@pytest.mark.parametrize("size", [1, 8_999, 9_000, 9_001, 100_000])
def test_whole(tmp_path: Path, parallel: int, size: int) -> None:
    """Every byte once, each range under the tag of the first answer, and a digest over all of it."""
    server = Server(DATA[:size], block=1000)
    expect = "sha256:" + hashlib.sha256(server.data).hexdigest()
    told: list[Progress] = []
    options = replace(OPTIONS, parallel=parallel, expect=expect)
    report = fetch(server, tmp_path / "dest", options, progress=told)
    assert (tmp_path / "dest").read_bytes() == server.data
    asked = ranges(server)
    each = range_size(size, 9_000, parallel)
    assert [first for first, _ in asked] == list(range(0, size, each))
    assert [last for _, last in asked] == [*range(each - 1, size - 1, each), size - 1]
    assert all(line.endswith(' if "a"') for line in server.store.asked[1:])
    assert (report.bytes, report.requests, report.bytes_refetched) == (size, len(asked), 0)
    assert report.verified == "sha256 (expected by the caller)"
    assert [one.done for one in told] == sorted(one.done for one in told)
    assert (told[-1].done, told[-1].total) == (size, size)
    assert leftovers(tmp_path / "dest") == []


@pytest.mark.parametrize("seed", range(30))
def test_over_a_failing_network(tmp_path: Path, seed: int) -> None:
    """Cuts, refusals and busy answers anywhere: exact, and no byte is fetched twice."""
    dice = random.Random(seed)
    server = Server(DATA, block=dice.choice([100, 3000, 10_000]))
    lock, sent = threading.Lock(), [0]

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        with lock:
            roll, at = dice.random(), dice.randrange(1, 9_000)
            if roll < 0.15:
                return StoreFault("connect", "refused")
            if roll < 0.25:
                return Reply(503)
            if roll < 0.6:
                reply = cut(at, dice.choice(["reset", "short", "timeout"]))(reply)
            sent[0] += sum(map(len, reply.body))
            return reply

    server.trouble = trouble
    report = fetch(server, tmp_path / "dest", replace(OPTIONS, attempts=30))
    assert (tmp_path / "dest").read_bytes() == DATA
    assert (sent[0], report.bytes_refetched) == (len(DATA), 0)
    assert len(ranges(server)) == report.requests


def test_a_slice(tmp_path: Path) -> None:
    """A slice in ranges is that slice, clamped at the end; the digest of the whole says nothing about it."""
    server = Server(DATA)
    fetch(server, tmp_path / "dest", part=Slice(20_001, 30_000))
    assert (tmp_path / "dest").read_bytes() == DATA[20_001:50_001]
    assert (ranges(server)[0][0], ranges(server)[-1][1]) == (20_001, 50_000)
    server = Server(DATA)
    fetch(server, tmp_path / "dest", part=Slice(90_000, 10**9))
    assert (tmp_path / "dest").read_bytes() == DATA[90_000:]
    with pytest.raises(Refused):
        fetch(server, tmp_path / "dest", part=Slice(len(DATA), None))


def test_one_range_that_fails_fails_the_whole(tmp_path: Path) -> None:
    """P40: nothing under the final name; the prefix without a hole is kept, and the next run goes on there,
    one plain transfer or several ranges."""
    for again in (OPTIONS, replace(OPTIONS, parallel=1)):
        server = Server(DATA)
        server.trouble = lambda number, reply: Reply(503) if b"27000" in head(reply) else reply
        with pytest.raises(Exhausted, match="gave up at byte 27000"):
            fetch(server, tmp_path / "dest")
        assert not (tmp_path / "dest").exists()
        server.store.asked.clear()
        server.trouble = lambda number, reply: reply
        report = fetch(server, tmp_path / "dest", again)
        assert (tmp_path / "dest").read_bytes() == DATA
        first = min(int(line.split()[1].split("-")[0]) for line in server.store.asked if "GET" in line)
        # What the other two had not finished by then is fetched again.
        assert first in (0, 9_000, 18_000, 27_000)
        assert report.bytes == len(DATA)
        (tmp_path / "dest").unlink()


def head(reply: Reply) -> bytes:
    """Where a range begins, as its answer says."""
    return reply.headers.get("content-range", "").partition("-")[0].encode()


@pytest.mark.parametrize("at", [1, 2, 5, 11])
def test_an_object_that_is_replaced(tmp_path: Path, at: int) -> None:
    """P10, P22: the old ranges are thrown away, and one plain transfer fetches the new object, whole."""
    server = Server(DATA)
    new = bytes(reversed(DATA))

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        if number == at:
            server.data, server.etag = new, '"b"'
            return server.get(0, None, None)
        return reply

    server.trouble = trouble
    report = fetch(server, tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == new
    assert report.restarts == 1
    server.data, server.etag = DATA, '"a"'
    server.trouble = lambda number, reply: replace(reply, headers={**reply.headers, "etag": '"c"'})
    with pytest.raises(Changed):
        fetch(server, tmp_path / "other", replace(OPTIONS, restarts=0))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_server_that_stops_answering_ranges(tmp_path: Path, after: int) -> None:
    """§14.2: the plain transfer goes on from what lies in a row."""
    server = Server(DATA)

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        server.ranges = server.ranges and number < after
        return reply if number < after else server.get(0, None, None)

    server.trouble = trouble
    report = fetch(server, tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == DATA
    assert report.restarts == 0


@pytest.mark.parametrize("flaw", ["weak", "no tag", "no head", "small", "empty", "coded"])
def test_where_ranges_are_not_to_be_had(tmp_path: Path, flaw: str) -> None:
    """No strong tag, no HEAD, or too small: one plain GET, as ever."""
    server = Server(b"" if flaw == "empty" else DATA)
    server.etag = {"weak": 'W/"a"', "no tag": ""}.get(flaw, '"a"')
    server.head = flaw != "no head"
    options = replace(OPTIONS, parallel_above=200_000 if flaw == "small" else 0)
    if flaw == "coded":
        play = server.store._play
        server.store._play = lambda method, *rest: (
            Reply(200, {"etag": '"a"', "content-length": "9", "content-encoding": "gzip"})
            if method == "HEAD"
            else play(method, *rest)
        )
    fetch(server, tmp_path / "dest", options)
    assert (tmp_path / "dest").read_bytes() == server.data
    assert server.store.asked == ["HEAD", "GET"]
    server.store.asked.clear()
    fetch(server, tmp_path / "dest", replace(options, parallel=1))
    assert server.store.asked == ["GET"], "no HEAD unless it was asked for"


def test_a_digest_that_differs(tmp_path: Path) -> None:
    """A spoilt range is found over the assembled object; the plain transfer is the clean start. A digest that
    stays wrong is Integrity, and nothing is published."""
    server = Server(DATA)
    expect = "sha256:" + hashlib.sha256(DATA).hexdigest()
    server.trouble = lambda number, reply: (
        replace(reply, body=[bytes(len(block)) for block in reply.body]) if number == 3 else reply
    )
    report = fetch(server, tmp_path / "dest", replace(OPTIONS, expect=expect))
    assert (tmp_path / "dest").read_bytes() == DATA
    assert report.bytes_refetched == len(DATA)
    server = Server(DATA[1:])
    with pytest.raises(Integrity):
        fetch(server, tmp_path / "other", replace(OPTIONS, expect=expect))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("spoilt", [False, True])
def test_a_digest_that_only_the_ranges_offer(tmp_path: Path, spoilt: bool) -> None:
    """P6: a digest of the whole in the head of a 206 is verified, though the HEAD had none."""
    server = Server(DATA)
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    if spoilt:
        digest = base64.b64encode(bytes(32)).decode()
    offer = {"repr-digest": f"sha-256=:{digest}:"}
    server.trouble = lambda number, reply: replace(reply, headers={**reply.headers, **offer})
    if spoilt:
        with pytest.raises(Integrity):
            fetch(server, tmp_path / "dest")
    else:
        assert fetch(server, tmp_path / "dest").verified == "sha256 (repr-digest)"


def test_a_partial_of_another_version(tmp_path: Path) -> None:
    """What an earlier run left of a version that is gone is dropped, and counted as a restart."""
    server = Server(DATA)
    server.trouble = lambda number, reply: cut(30_000)(reply) if number == 1 else Reply(503)
    with pytest.raises(Exhausted):
        fetch(server, tmp_path / "dest", replace(OPTIONS, parallel=1))
    server.data, server.etag = bytes(reversed(DATA)), '"b"'
    server.trouble = lambda number, reply: reply
    report = fetch(server, tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == server.data
    assert (report.restarts, report.bytes_refetched) == (1, 30_000)


def test_a_partial_of_one_plain_transfer(tmp_path: Path) -> None:
    """Ranges begin behind what an earlier plain run left; the digest covers its bytes, too."""
    server = Server(DATA)
    server.trouble = lambda number, reply: cut(30_000)(reply) if number == 1 else Reply(503)
    with pytest.raises(Exhausted):
        fetch(server, tmp_path / "dest", replace(OPTIONS, parallel=1))
    server.store.asked.clear()
    server.trouble = lambda number, reply: reply
    expect = "sha256:" + hashlib.sha256(DATA).hexdigest()
    fetch(server, tmp_path / "dest", replace(OPTIONS, expect=expect))
    assert (tmp_path / "dest").read_bytes() == DATA
    assert ranges(server)[0] == (30_000, 38_999)


class Killed(BaseException):
    """The process died."""


class BadDisk(Disk):
    """From the given call on, it raises; with Killed, a write does half of what it should."""

    def __init__(self, steps: int, error: BaseException) -> None:
        self.steps, self.error, self.dead, self.lock = steps, error, False, threading.Lock()

    def _step(self) -> bool:
        with self.lock:
            self.steps -= 1
            self.dead = self.dead or self.steps < 0
            return self.dead

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        if self._step():
            if isinstance(self.error, Killed):
                super().write(fd, data[: len(data) // 2], offset)
            raise self.error
        return super().write(fd, data, offset)

    def sync(self, fd: int) -> None:
        if self._step():
            raise self.error

    def truncate(self, fd: int, size: int) -> None:
        if self._step():
            raise self.error
        super().truncate(fd, size)


def test_killed_at_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P37: whichever write or flush the process dies in, the next run ends with the whole."""
    dest = tmp_path / "dest"
    options = replace(OPTIONS, checkpoint_bytes=20_000)
    expect = replace(options, expect="sha256:" + hashlib.sha256(DATA).hexdigest())
    for steps in range(200):
        disk = BadDisk(steps, Killed())
        with monkeypatch.context() as patch:
            patch.setattr("reknit._filesink.FileSink._leave", lambda self: None)
            patch.setattr("reknit._filesink.FileSink.pause", lambda self: None)
            try:
                fetch(Server(DATA, block=3000), dest, options, disk=disk)
            except Killed:
                pass
        if not disk.dead:
            break
        assert not dest.exists() or dest.read_bytes() == DATA  # the last flush is that of the folder
        for path in leftovers(dest):
            path.rename(path.with_name(".dest.reknit-free-0"))
        fetch(Server(DATA), dest, expect if steps % 2 else replace(expect, parallel=1))
        assert dest.read_bytes() == DATA
        assert leftovers(dest) == []
        dest.unlink()
    assert 20 < steps < 199


def test_a_full_disk_at_every_step(tmp_path: Path) -> None:
    """C7: named as that, whichever thread meets it; the old content stays, and no thread writes on."""
    dest = tmp_path / "dest"
    for steps in range(200):
        dest.write_bytes(b"old")
        disk = BadDisk(steps, OSError(errno.ENOSPC, "No space left on device"))
        try:
            fetch(Server(DATA, block=3000), dest, replace(OPTIONS, checkpoint_bytes=20_000), disk=disk)
        except SinkError as error:
            told = str(error)
        else:
            break
        assert "the disk is full" in told
        assert dest.read_bytes() in (b"old", DATA)
    assert 20 < steps < 199


def test_an_interrupt_keeps_the_prefix(tmp_path: Path) -> None:
    """Ctrl-C in the caller's thread ends the workers, and what lies in a row is there for the next run."""
    server, told = Server(DATA), []

    def interrupt(now: Progress) -> None:
        told.append(now.done)
        if now.done > 30_000:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        FileSink(tmp_path / "dest", "it", OPTIONS) as sink,
    ):
        fill(server.store, sink, OPTIONS, interrupt, WHOLE)
    kept = sink.held
    assert kept > 0
    server.store.asked.clear()
    fetch(server, tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == DATA
    if kept < len(DATA):
        assert ranges(server)[0][0] == kept


def test_one_renewal_for_all(tmp_path: Path) -> None:
    """Credentials that expire under several ranges are renewed once, not once for each."""
    server = Server(DATA)
    fresh = threading.Event()
    old = threading.Barrier(3)

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        if not fresh.is_set() and number <= 3:
            old.wait(10)  # all three have asked with the old ones
            return Reply(401)
        return reply

    renewals = []

    def renew() -> bool:
        renewals.append(1)
        fresh.set()
        return True

    server.trouble = trouble
    server.store.renew = renew
    fetch(server, tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == DATA
    assert len(renewals) == 1


def test_waits_end_with_the_download(tmp_path: Path) -> None:
    """A range that waits for its next attempt does not hold up the failure of another."""
    server = Server(DATA)

    def trouble(number: int, reply: Reply) -> Reply | StoreFault:
        return Reply(404) if b" 9000" in head(reply) else Reply(503, {"retry-after": "100"})

    server.trouble = trouble
    options = replace(Options(parallel=3, parallel_above=0, range_bytes=9_000), attempts=3)
    with pytest.raises(Refused, match="404"):
        fetch(server, tmp_path / "dest", options)


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"range_bytes": 0}, {"parallel_above": -1}])
def test_options(wrong: dict[str, int]) -> None:
    """Numbers that make no sense are the caller's error."""
    with pytest.raises(CallerError, match="parallel"):
        Options(**wrong)
