"""What is left on the disk: killed at every step, damaged at every byte, shared, foreign, full."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from reknit import Exhausted, Options, Refused, SinkError, download, open_stream
from reknit import _journal as journal
from reknit import _partial as partial
from reknit._filesink import Disk, FileSink
from reknit._representation import Representation

DATA = bytes(range(256)) * 400
DATA_END = len(DATA)


def leftovers(dest: Path) -> list[Path]:
    return sorted(path for path in dest.parent.iterdir() if path.name.startswith("."))


class Killed(BaseException):
    """The process died: nothing of ours runs after it."""


class DyingDisk(Disk):
    """Does `steps` calls, the last of them half when it is a write, then dies; `error` is raised instead if
    given.
    """

    def __init__(self, steps: int, error: OSError | None = None) -> None:
        self.steps, self.error, self.dead = steps, error, False

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0 or self.dead:
            self.dead = True
            raise self.error or Killed

    def open(self, path: Path, flags: int) -> int:
        self._step()
        return super().open(path, flags)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        try:
            self._step()
        except BaseException:
            if self.error is None:
                super().write(fd, data[: len(data) // 2], offset)
            raise
        return super().write(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        self._step()
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._step()

    def replace(self, source: Path, dest: Path) -> None:
        self._step()
        super().replace(source, dest)


@pytest.fixture
def no_cleanup(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Turns an abandoned folder of this process into one of a process that is gone."""

    def bury(dest: Path) -> None:
        for path in leftovers(dest):
            if "-free-" not in path.name:
                path.rename(path.with_name(path.name.replace(f"-{os.getpid()}-", "-999999999-")))

    return bury


def test_killed_at_every_step(origin, whole, say, fast, tmp_path, monkeypatch, no_cleanup) -> None:
    """P36, P37: whichever call the process dies in, the name holds the old content or the whole new one,
    and the next run ends with the whole and leaves nothing behind."""
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, checkpoint_bytes=1 << 15, buffer=1 << 13)
    dest = tmp_path / "dest"
    for steps in range(200):
        dest.write_bytes(b"old")
        disk = DyingDisk(steps)
        with monkeypatch.context() as patch:
            # A dead process cleans up nothing: leaving the folder and closing files is all that is left to
            # do.
            patch.setattr("reknit._filesink.FileSink._leave", lambda self: None)
            patch.setattr("reknit._filesink.FileSink.pause", lambda self: None)
            try:
                download(origin.url(), dest, options=options, _disk=disk)
            except Killed:
                pass
        assert dest.read_bytes() in (b"old", DATA), steps
        if not disk.dead:
            break
        no_cleanup(dest)
        origin.asked.clear()
        download(origin.url(), dest, options=options)
        assert dest.read_bytes() == DATA, steps
        assert leftovers(dest) == [], steps
    assert 20 < steps < 199, "the disk never died, or always"


def test_killed_at_every_step_of_large_blocks(tmp_path, monkeypatch, no_cleanup) -> None:
    """What is proved afterwards is right and lags by two blocks at most, though their CRC is made behind."""
    size, version = 1 << 20, Representation(total=6 << 20, etag='"a"')
    blocks = [bytes([65 + number]) * size for number in range(6)]
    buffers = [memoryview(bytearray(size)) for _ in range(2)]
    options = Options(checkpoint_bytes=3 << 20)
    for steps in range(200):
        disk, written = DyingDisk(steps), 0
        with monkeypatch.context() as patch:
            patch.setattr(FileSink, "_leave", lambda self: self._behind.close())
            patch.setattr(FileSink, "pause", lambda self: None)
            try:
                with FileSink(tmp_path / "dest", "it", options, disk) as sink:
                    sink.pin(version)
                    for number, block in enumerate(blocks):
                        buffer = buffers[number % 2]
                        buffer[:] = block  # as a connection writes over what it gave before
                        sink.write(buffer)
                        written += size
            except Killed:
                pass
        no_cleanup(tmp_path / "dest")
        with FileSink(tmp_path / "dest", "it", options) as after:
            assert written - 2 * size <= after.held <= written + size, steps
            assert b"".join(after.kept()) == b"".join(blocks)[: after.held]
            after.truncate()
        if not disk.dead:
            break
    assert 10 < steps < 199, "the disk never died, or always"
    assert after.held == 0
    assert leftovers(tmp_path / "dest") == []


def test_a_full_disk_is_named_at_every_step(origin, whole, say, fast, tmp_path) -> None:
    """C7: ENOSPC from any call is a SinkError that says so, the old content stays, nothing is left half
    done.
    """
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, checkpoint_bytes=1 << 15, buffer=1 << 13)
    dest = tmp_path / "dest"
    for steps in range(200):
        dest.write_bytes(b"old")
        disk = DyingDisk(steps, OSError(errno.ENOSPC, "No space left on device"))
        try:
            download(origin.url(), dest, options=options, _disk=disk)
        except SinkError as error:
            told, cause = str(error), error.cause
        else:
            break
        assert "the disk is full" in told
        assert isinstance(cause, OSError)
        assert dest.read_bytes() in (b"old", DATA)
        assert all("-free-" in path.name for path in leftovers(dest))
    assert steps > 10


def interrupted(origin, whole, say, fast, dest: Path, at: int = 60_000) -> Path:
    """Leave a partial of `at` bytes behind, and return its folder."""
    head = whole(DATA)
    body = len(head) - len(DATA)
    origin.script = [say(head[: body + at], "fin")]
    origin.then = lambda asked: say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Exhausted):
        download(origin.url(), dest, options=replace(fast, attempts=1))
    origin.then = lambda asked: say(whole(DATA, asked))
    origin.asked.clear()
    (folder,) = leftovers(dest)
    return folder


def finish(origin, fast, dest: Path) -> int:
    """Run again; returns the first byte asked for."""
    download(origin.url(), dest, options=fast)
    assert dest.read_bytes() == DATA
    assert leftovers(dest) == []
    lines = [line for line in origin.asked[0].split("\r\n") if line.startswith("Range: ")]
    return int(lines[0][13:-1]) if lines else 0


@pytest.mark.parametrize("at", [1, 10_000, 60_000, len(DATA) - 1])
def test_the_next_run_continues(origin, whole, say, fast, tmp_path, at) -> None:
    """P12, B095: at the exact byte, under the first tag."""
    interrupted(origin, whole, say, fast, tmp_path / "dest", at)
    assert finish(origin, fast, tmp_path / "dest") == at
    assert 'If-Range: "a"' in origin.asked[0]


def test_a_replaced_object_is_not_continued(origin, whole, say, fast, tmp_path) -> None:
    """P10 across processes: the object changed between two runs."""
    dest = tmp_path / "dest"
    interrupted(origin, whole, say, fast, dest)
    other = DATA[::-1]
    origin.then = lambda asked: say(whole(other, etag='"b"'))
    download(origin.url(), dest, options=fast)
    assert dest.read_bytes() == other


def test_a_shorter_new_object_leaves_no_stale_tail(origin, whole, say, fast, tmp_path) -> None:
    """P35: replaced in the middle of one run by fewer bytes than are held."""
    dest = tmp_path / "dest"
    origin.script = [say(whole(DATA)[:-1000]), say(whole(b"short", etag='"b"'))]
    download(origin.url(), dest, options=fast)
    assert dest.read_bytes() == b"short"
    assert leftovers(dest) == []


def test_a_partial_of_another_url_is_not_used(origin, whole, say, fast, tmp_path) -> None:
    """P39, B116: same name, other source: from zero, and the foreign partial is gone."""
    dest = tmp_path / "dest"
    interrupted(origin, whole, say, fast, dest)
    download(origin.url("/another"), dest, options=fast)
    assert dest.read_bytes() == DATA
    assert "Range" not in origin.asked[0]
    assert leftovers(dest) == []


def test_a_partial_of_another_slice_is_not_used(origin, whole, say, fast, tmp_path) -> None:
    """P16, P39: the same slice goes on where it was; another one, or the whole, begins anew."""
    dest = tmp_path / "dest"

    def begin() -> None:
        origin.script = [say(whole(DATA, "Range: bytes=100-90099")[:-10_000], "fin")]
        origin.then = lambda asked: say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        with pytest.raises(Exhausted):
            download(origin.url(), dest, first=100, length=90_000, options=replace(fast, attempts=1))
        assert len(leftovers(dest)) == 1
        origin.then = lambda asked: say(whole(DATA, asked))
        origin.asked.clear()

    for first, length, asked in (
        (100, 90_000, "bytes=80100-90099"),
        (100, 90_001, "bytes=100-90100"),
        (0, 90_000, "bytes=0-89999"),
        (100, None, "bytes=100-"),
        (0, None, ""),
    ):
        begin()
        download(origin.url(), dest, first=first, length=length, options=fast)
        assert dest.read_bytes() == DATA[first:][:length]
        assert [line[7:] for line in origin.asked[0].split("\r\n") if line[:7] == "Range: "] == [
            asked
        ] * bool(asked)
        assert leftovers(dest) == []


def test_a_rotated_signature_is_the_same_object(origin, whole, say, fast, tmp_path) -> None:
    """B147: a presigned link is another string each time."""
    dest = tmp_path / "dest"
    head = whole(DATA)
    origin.script = [say(head[:-1000], "fin")]
    origin.then = lambda asked: say(b"HTTP/1.1 403 Expired\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Refused):
        download(origin.url("/o?X-Amz-Signature=1&v=1"), dest, options=fast)
    origin.then = lambda asked: say(whole(DATA, asked))
    origin.asked.clear()
    download(origin.url("/o?X-Amz-Signature=2&v=1"), dest, options=fast)
    assert "Range: bytes=" in origin.asked[0]


@pytest.mark.parametrize(
    ("spoil", "most"),
    [
        (lambda folder: (folder / "data").write_bytes(bytes(60_000)), 0),
        (lambda folder: (folder / "data").write_bytes(b""), 0),
        (lambda folder: os.truncate(folder / "data", 59_999), 59_999),
        (
            lambda folder: (folder / "data").write_bytes((folder / "data").read_bytes() + b"x" * 99_999),
            60_000,
        ),
        (lambda folder: (folder / "data").unlink(), 0),
        (lambda folder: (folder / "journal").unlink(), 0),
        (lambda folder: (folder / "journal").write_bytes(b""), 0),
        (lambda folder: (folder / "journal").write_bytes(bytes(4096)), 0),
        (lambda folder: (folder / "journal").write_bytes(b'{"reknit": 99}\n'), 0),
        (lambda folder: (folder / "journal").write_bytes(os.urandom(1000)), 0),
    ],
    ids=[
        "zeroed", "emptied", "short", "oversize", "no-data",
        "no-journal", "empty-journal", "zero-journal", "old-journal", "noise",
    ],
)  # fmt: skip
def test_spoilt_state_costs_a_download_at_most(origin, whole, say, fast, tmp_path, spoil, most) -> None:
    """P37, P39, C3: zeros, truncation, surplus and loss of either file."""
    spoil(interrupted(origin, whole, say, fast, tmp_path / "dest"))
    assert finish(origin, fast, tmp_path / "dest") <= most


def test_every_byte_of_the_journal_may_be_damaged(origin, whole, say, fast, tmp_path) -> None:
    """P37: flip each byte in turn: never an error, never a wrong byte."""
    dest = tmp_path / "dest"
    size = (interrupted(origin, whole, say, fast, dest) / "journal").stat().st_size
    finish(origin, fast, dest)
    starts = set()
    for at in range(size):
        journal = interrupted(origin, whole, say, fast, dest) / "journal"
        text = bytearray(journal.read_bytes())
        text[at] ^= 0x11
        journal.write_bytes(text)
        starts.add(finish(origin, fast, dest))
    assert starts <= {0, *range(16 << 10, 60_001)}
    assert 0 in starts


def test_a_damaged_line_counts_as_absent() -> None:
    """Each line carries its own CRC: a head that changed by one byte names nothing."""
    line = journal.head("object", Representation(total=9, etag='"a"'), "crc32")
    marks = [journal.mark(5, 1), journal.mark(7, 2)]
    assert journal.read([line, *marks], "object").marks == ((5, 1), (7, 2))
    assert journal.read([line, *marks], "other") is None
    for at in range(len(line) - 1):
        spoilt = bytearray(line)
        spoilt[at] ^= 1
        assert journal.read([bytes(spoilt), *marks], "object") is None


@pytest.mark.parametrize("at", [0, 1, 20_000, 59_999])
def test_a_tampered_prefix_is_not_published(origin, whole, say, fast, tmp_path, at) -> None:
    """C6: one wrong byte in a partial of the right size; only what lies before it may be kept."""
    data = interrupted(origin, whole, say, fast, tmp_path / "dest") / "data"
    text = bytearray(data.read_bytes())
    text[at] ^= 1
    data.write_bytes(text)
    assert finish(origin, fast, tmp_path / "dest") <= at


def test_a_complete_partial_needs_no_request(origin, whole, say, fast, tmp_path) -> None:
    """P15, B046, C4: only publishing had failed; nothing is asked past the end."""
    dest = tmp_path / "dest"
    origin.then = lambda asked: say(whole(DATA, asked))

    class NoRename(Disk):
        def replace(self, source: Path, dest: Path) -> None:
            raise OSError(errno.EACCES, "no")

    with pytest.raises(SinkError, match="cannot publish"):
        download(origin.url(), dest, options=fast, _disk=NoRename())
    origin.asked.clear()
    report = download(origin.url(), dest, options=fast)
    assert dest.read_bytes() == DATA
    assert (origin.asked, report.requests) == ([], 0)


def test_marks_of_an_abandoned_tail_do_not_hide_later_ones(origin, whole, say, fast, tmp_path) -> None:
    """The second run writes other marks than the first: what it proves is found by the third."""
    dest = tmp_path / "dest"
    folder = interrupted(origin, whole, say, fast, dest)
    text = bytearray((folder / "data").read_bytes())
    text[30_000] ^= 1
    (folder / "data").write_bytes(text)
    interrupted_again(origin, whole, say, fast, dest, 90_000)
    assert finish(origin, fast, dest) == 90_000


def interrupted_again(origin, whole, say, fast, dest: Path, at: int) -> None:
    """One more run, with the changed bytes of the same version, cut at byte `at`."""
    origin.script = []
    origin.then = lambda asked: say(whole(DATA, asked)[: at - DATA_END], "fin")
    with pytest.raises(Exhausted):
        download(origin.url(), dest, options=replace(fast, attempts=0))
    origin.then = lambda asked: say(whole(DATA, asked))
    origin.asked.clear()


def test_without_a_validator_nothing_is_kept(origin, whole, say, fast, tmp_path) -> None:
    """P12: a partial that cannot be bound to anything is removed."""
    dest = tmp_path / "dest"
    origin.then = lambda asked: say(whole(DATA, etag="")[:-5])
    with pytest.raises(Exhausted):
        download(origin.url(), dest, options=fast)
    assert leftovers(dest) == []


def claimed(folder: Path) -> int:
    """The last offset that a journal below `folder` claims."""
    texts = [path.read_text() for path in folder.glob(".*/journal")]
    return max((int(at) for text in texts for at in re.findall(r" \[(\d+),\d+\]\n", text)), default=0)


def test_before_a_wait_every_byte_is_claimed(origin, whole, say, fast, tmp_path) -> None:
    """P37: whoever is killed while it waits has lost nothing, however little there is."""
    seen = []
    head = whole(DATA)
    origin.script = [say(head[: len(head) - len(DATA) + 9999]), say(b"HTTP/1.1 503 Busy\r\n\r\n")]
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, backoff_base=1, sleep=lambda _: seen.append(claimed(tmp_path)))
    download(origin.url(), tmp_path / "dest", options=options)
    assert seen == [9999]


SCRIPT = (
    "import sys, reknit; reknit.download(sys.argv[1], sys.argv[2], options=reknit.Options(idle_timeout=60))"
)


def test_sigkill_in_the_middle(origin, whole, say, fast, tmp_path) -> None:
    """C2, B095: a real process, really killed while the body stands still; the next run continues near the
    end.
    """
    dest = tmp_path / "dest"
    head = whole(DATA)
    origin.script = [say(head[: len(head) - len(DATA) + 90_000], "hold")]
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, origin.url(), str(dest)])
    try:
        deadline = time.monotonic() + 20
        while claimed(tmp_path) < 60_000 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not dest.exists()
    origin.then = lambda asked: say(whole(DATA, asked))
    origin.asked.clear()
    assert finish(origin, fast, dest) >= 60_000


def test_two_downloads_of_one_destination(origin, whole, say, fast, tmp_path) -> None:
    """P38, B114: a live owner's partial is never touched; both end whole, whoever renames last."""
    dest = tmp_path / "dest"
    started, go = threading.Event(), threading.Event()

    def slow(asked: str):
        started.set()
        go.wait(10)
        return say(whole(DATA, asked))

    origin.then = slow
    first = threading.Thread(
        target=download, args=(origin.url(), dest), kwargs={"options": replace(fast, idle_timeout=9)}
    )
    first.start()
    assert started.wait(10)
    (folder,) = leftovers(dest)
    origin.then = lambda asked: say(whole(DATA, asked))
    download(origin.url(), dest, options=fast)
    assert dest.read_bytes() == DATA
    assert leftovers(dest) == [folder], "the second took, or left, a partial"
    go.set()
    first.join(10)
    assert dest.read_bytes() == DATA
    assert leftovers(dest) == []


def test_a_partial_of_another_machine_is_copied(origin, whole, say, fast, tmp_path) -> None:
    """P38: its owner cannot be asked, so its folder stays while it may be alive, and goes once it is old."""
    dest = tmp_path / "dest"
    folder = interrupted(origin, whole, say, fast, dest)
    theirs = folder.rename(folder.with_name(f"{partial._prefix(dest)}deadbeef-1-1-00"))
    download(origin.url(), dest, options=fast)
    assert "Range: bytes=60000-" in origin.asked[0]
    assert leftovers(dest) == [theirs]
    for path in theirs.iterdir():
        os.utime(path, (1, 1))
    download(origin.url(), dest, options=fast)
    assert leftovers(dest) == []


def test_a_reused_process_number_is_not_its_owner(tmp_path) -> None:
    """The start time tells two processes of one number apart."""
    me = os.getpid()
    assert partial._alive([str(me), partial._started(me)])
    assert not partial._alive([str(me), "1"])
    assert not partial._alive(["999999999", "1"])


def test_a_process_that_was_killed_and_not_reaped_owns_nothing() -> None:
    """It keeps its number until its parent has asked for it, in a container perhaps for ever."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = partial._started(child.pid)
        assert partial._alive([str(child.pid), started])
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not partial._alive([str(child.pid), started])


def test_names_as_long_as_they_get(origin, whole, say, fast, tmp_path) -> None:
    """The folder's name fits where the destination's does."""
    dest = tmp_path / ("n" * 255)
    interrupted(origin, whole, say, fast, dest)
    assert finish(origin, fast, dest) == 60_000


def test_a_link_is_written_through(origin, whole, say, fast, tmp_path) -> None:
    """A symbolic link stays one, and its target gets the bytes."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    origin.then = lambda asked: say(whole(DATA, asked))
    download(origin.url(), tmp_path / "link", options=fast)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == DATA


def test_a_folder_is_no_destination(origin, fast, tmp_path) -> None:
    """Said before anything is asked."""
    with pytest.raises(ValueError, match="not a regular file"):
        download(origin.url(), tmp_path, options=fast)
    with pytest.raises(SinkError):
        download(origin.url(), tmp_path / "no" / "dest", options=fast)
    assert origin.asked == []


def test_hashes_cover_the_prefix_of_an_earlier_run(origin, whole, say, fast, tmp_path) -> None:
    """P34, B085: the digest is over the sink, not over what this run fetched."""
    good = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    extra = f"Content-MD5: {good}\r\n"
    dest = tmp_path / "dest"
    interrupted(origin, lambda data, asked="": whole(data, asked, extra=extra), say, fast, dest)
    report = download(origin.url(), dest, options=fast)
    assert report.verified == "md5 (content-md5)"
    assert dest.read_bytes() == DATA
    assert len(origin.asked) == 1, "the rest was not enough"


def test_marks_are_of_the_crc_that_is_verified(origin, whole, say, fast, tmp_path, monkeypatch) -> None:
    """Where CRC64NVME is verified, so are marks; who cannot compute it begins anew."""
    from awscrt import checksums

    value = base64.b64encode(checksums.crc64nvme(DATA).to_bytes(8, "big")).decode()
    extra = f"x-amz-checksum-crc64nvme: {value}\r\n"
    dest = tmp_path / "dest"

    def summed(data: bytes, asked: str = "") -> bytes:
        return whole(data, asked, extra=extra)

    folder = interrupted(origin, summed, say, fast, dest)
    record = journal.read((folder / "journal").read_bytes().splitlines(), None)
    assert record.sum == "crc64nvme"
    assert record.marks[-1] == (60_000, checksums.crc64nvme(DATA[:60_000]))
    report = download(origin.url(), dest, options=fast)
    assert report.verified == "crc64nvme (x-amz-checksum-crc64nvme)"
    assert "Range: bytes=60000-" in origin.asked[0]

    interrupted(origin, summed, say, fast, dest)
    monkeypatch.setattr(journal, "available", lambda algorithm: algorithm != "crc64nvme")
    assert finish(origin, fast, dest) == 0


def test_a_partial_bound_by_a_digest_needs_that_digest(origin, whole, say, fast, tmp_path) -> None:
    """P13: joined on the promise of a digest, it is not published by a run that would not verify it."""
    extra = f"Content-MD5: {base64.b64encode(hashlib.md5(DATA).digest()).decode()}\r\n"

    def untagged(data: bytes, asked: str = "") -> bytes:
        return whole(data, asked, etag="", extra=extra)

    dest = tmp_path / "dest"
    interrupted(origin, untagged, say, fast, dest)
    download(origin.url(), dest, options=replace(fast, verify=False))
    assert "Range" not in origin.asked[0]
    interrupted(origin, untagged, say, fast, dest)
    assert download(origin.url(), dest, options=fast).verified
    assert "Range: bytes=60000-" in origin.asked[0]
    assert dest.read_bytes() == DATA


def test_a_limit_on_file_size_is_a_sink_error(origin, whole, say, tmp_path) -> None:
    """A real EFBIG from the kernel, in a process of its own."""
    origin.then = lambda asked: say(whole(DATA, asked))
    script = (
        "import resource, signal, sys, reknit\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try: reknit.download(sys.argv[1], sys.argv[2])\n"
        "except reknit.SinkError as error: sys.exit(7)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, origin.url(), str(tmp_path / "dest")], timeout=60, check=False
    )
    assert run.returncode == 7
    assert not (tmp_path / "dest").exists()


def test_a_stream_leaves_nothing_on_the_disk(origin, whole, say, fast, tmp_path, monkeypatch) -> None:
    """Reading through a cut needs no file."""
    monkeypatch.chdir(tmp_path)
    head = whole(DATA)
    origin.script = [say(head[:-5000], "rst")]
    origin.then = lambda asked: say(whole(DATA, asked))
    with open_stream(origin.url(), options=fast) as stream:
        assert stream.read() == DATA
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), IsADirectoryError()])
def test_a_journal_that_cannot_be_written(origin, whole, say, fast, tmp_path, error) -> None:
    """A read-only journal costs a download from zero, no more; nothing of it is left behind."""
    interrupted(origin, whole, say, fast, tmp_path / "dest")

    class ReadOnly(Disk):
        def open(self, path: Path, flags: int) -> int:
            if path.name == partial.JOURNAL and not flags & os.O_CREAT:
                raise error
            return super().open(path, flags)

    download(origin.url(), tmp_path / "dest", options=fast, _disk=ReadOnly())
    assert (tmp_path / "dest").read_bytes() == DATA
    assert "range" not in origin.asked[0].lower()
    assert leftovers(tmp_path / "dest") == []


@pytest.mark.parametrize(
    "forged",
    [
        ["a", 1],
        [1, "a"],
        [1.5, 2],
        [True, 1],
        [None, None],
        [[], {}],
        {"reknit": journal.VERSION, "object": "x", "sum": "crc32", "total": "9"},
    ],
)
def test_lines_that_nobody_wrote(forged) -> None:
    """A line with a fitting checksum and senseless content is no mark and no head, and no crash."""
    whole = journal.head("x", Representation(total=9, etag='"a"'), "crc32") + journal.mark(5, 7)
    record = journal.read((whole + journal.line(forged)).splitlines(), "x")
    assert record is None or record.marks == ((5, 7),)


@pytest.mark.parametrize(
    "field",
    [
        {"total": "9"},
        {"total": -1},
        {"total": True},
        {"etag": 5},
        {"weak": None},
        {"coding": []},
        {"sum": "md5"},
        {"sum": []},
    ],
)
def test_heads_with_senseless_fields(field) -> None:
    """Such a head names no version, so nothing is continued."""
    good = {**asdict(Representation(total=9, etag='"a"')), "reknit": journal.VERSION, "object": "x"}
    good |= {"url": "", "sum": "crc32"}
    assert journal.read([journal.line(good)], "x") is not None
    said = {**good, **field}
    assert journal.read([journal.line(said)], "x") is None
