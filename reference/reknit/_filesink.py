"""A file that appears whole or not at all, and that a later process can go on with."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from reknit import _journal, _partial
from reknit._behind import Behind
from reknit._checksums import Hasher
from reknit._errors import CallerError, Changed, Integrity, Refused, SinkError
from reknit._options import Options
from reknit._representation import Representation

# Marks are cheap but not free: the first after 16 KiB, then one for each eighth more, at most 1 MiB apart.
_FIRST_MARK, _MARK_SHARE, _LAST_MARK = 16 << 10, 3, 1 << 20
_BLOCK = 1 << 20


class Disk:
    """The calls that change the disk, in one place: a test makes each fail, or the process die there."""

    def open(self, path: Path, flags: int) -> int:
        """A descriptor."""
        return os.open(path, flags | os.O_CLOEXEC, 0o666)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write at an offset: an appending write would trust the file to be as long as it should be."""
        return os.pwrite(fd, data, offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut to size."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Wait until it is on the disk."""
        os.fsync(fd)

    def begin(self, fd: int, offset: int, size: int) -> None:
        """Have it written out from now on (as Linux takes this advice), so that a sync has less to do."""
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)

    def replace(self, source: Path, dest: Path) -> None:
        """Publish."""
        source.replace(dest)


class FileSink:
    """A partial folder beside `dest`, renamed onto it by `publish`. A context manager: leaving it keeps
    what a later download can use and removes the rest. Raises SinkError for what the disk refuses."""

    def __init__(
        self, dest: Path, identity: str, options: Options, disk: Disk | None = None, url: str = ""
    ) -> None:
        self.dest, self._identity, self._url = Path(os.path.realpath(dest)), identity, url
        self._options, self._disk = options, disk or Disk()
        self.representation: Representation | None = None
        self.held = self._marked = self._durable = 0
        self._sum = Hasher(_journal.SUMS[0])
        self._behind = Behind(self._check)  # the CRC of what is held
        self._folder: Path | None = None
        self._data = self._journal = -1
        self._journal_end = 0
        self._resumable = self._published = self._headed = False

    def __enter__(self) -> FileSink:
        try:
            with self._guard("cannot write beside the destination"):
                if self.dest.exists() and not stat.S_ISREG(self.dest.stat().st_mode):
                    raise CallerError(f"{self.dest} is not a regular file")
                self._adopt()
                if self._folder is None:
                    self._folder = _partial.create(self.dest)
                    self._data = self._disk.open(
                        self._folder / _partial.DATA, os.O_RDWR | os.O_CREAT | os.O_EXCL
                    )
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (Integrity, Changed)) or (isinstance(error, Refused) and error.status == 404):
            self._resumable = False  # what is held is of no object that could be asked for again
        try:
            if not self._published:
                self.pause()
        except SinkError:
            pass  # the error that brought us here is the one to tell
        finally:
            self._leave()

    def pin(self, representation: Representation) -> None:
        """See Sink.pin. Nothing is written yet: a small download that meets no trouble needs no journal."""
        self.representation = representation
        self._resumable = self._binds(representation)
        if not self.held:
            self._sum = Hasher(_journal.sum_for(self._options.wanted(representation.digests)))
        self._headed = False

    def write(self, data: memoryview) -> None:
        """See Sink.write."""
        with self._guard("cannot write the partial"):
            self._write(self._data, data, self.held)
            self._count(data)

    def put(self, offset: int, data: memoryview) -> None:
        """Write at a place beyond what is held; from any thread. It counts once `absorb` comes to it."""
        with self._guard("cannot write the partial"):
            self._write(self._data, data, offset)

    def absorb(self, upto: int) -> Iterator[memoryview]:
        """Count what was put up to there, without a hole, as held; give it out in blocks.

        A block is good until the one after the next is asked for.
        """
        buffers = [memoryview(bytearray(min(_BLOCK, upto - self.held))) for _ in range(2)]
        for buffer in itertools.cycle(buffers):
            if self.held == upto:
                break
            with self._guard("cannot read the partial"):
                size = os.preadv(self._data, [buffer[: upto - self.held]], self.held)
                if not size:
                    raise OSError(errno.EIO, "the partial was altered by somebody else")
                self._count(buffer[:size])
            yield buffer[:size]

    def rewind(self) -> None:
        """Cut off what was put beyond what is held."""
        with self._guard("cannot cut the partial"):
            self._disk.truncate(self._data, self.held)

    def truncate(self) -> None:
        """See Sink.truncate. The journal goes first: it must never speak of bytes that are not there."""
        self._behind.settle()
        with self._guard("cannot empty the partial"):
            if self._journal >= 0:
                self._disk.truncate(self._journal, 0)
            self._disk.truncate(self._data, 0)
        self.held = self._marked = self._durable = self._journal_end = 0
        self._sum = Hasher(_journal.SUMS[0])
        self.representation, self._resumable = None, False

    def pause(self) -> None:
        """See Sink.pause: claim every byte, for the process may not come back."""
        if self.held > self._marked:
            with self._guard("cannot write the journal"):
                self._mark()

    def kept(self) -> Iterator[bytes]:
        """What an earlier download left, from the disk."""
        with self._guard("cannot read the partial"), open(self._data, "rb", closefd=False) as file:
            file.seek(0)
            left = self.held
            while left and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block

    def publish(self) -> None:
        """Flush, then rename: the name holds the old content or all of the new, also after a power cut."""
        assert self._folder is not None
        with self._guard("cannot publish"):
            if os.fstat(self._data).st_size != self.held:
                raise OSError(errno.EIO, "the partial was altered by somebody else")
            self._disk.sync(self._data)
            self._disk.replace(self._folder / _partial.DATA, self.dest)
            self._published = True
            self._sync_folder(self.dest.parent)

    # -- inside --------------------------------------------------------------------------------------------

    def _adopt(self) -> None:
        """Of what earlier downloads left, take the one that proves most, and remove the others."""
        for folder in _partial.claim_all(self.dest):
            data, found = self._load(folder)
            if found is not None and found[1] > self.held:
                self._drop(self._data, self._folder)
                self._folder, self._data = folder, data
                self.representation, self.held, self._sum = found
            else:
                self._drop(data, folder)
        if self._folder is not None and self.representation is not None:
            try:
                self._begin_again(self._folder)
            except (PermissionError, IsADirectoryError):
                # What cannot be continued costs a download from zero, as if it were not there.
                self._drop(self._data, self._folder)
                self._folder, self._data = None, -1
                self.representation, self._resumable, self._headed = None, False, False
                self.held = self._marked = 0
                self._sum = Hasher(_journal.SUMS[0])

    @staticmethod
    def _drop(data: int, folder: Path | None) -> None:
        if data >= 0:
            os.close(data)
        if folder is not None:
            _partial.discard(folder)

    def _load(self, folder: Path) -> tuple[int, tuple[Representation, int, Hasher] | None]:
        """Open the data of a partial; say what of it is proved, never of another object or beyond it."""
        try:
            with (folder / _partial.JOURNAL).open("rb") as lines:
                record = _journal.read(lines, self._identity)
            data = self._disk.open(folder / _partial.DATA, os.O_RDWR)
        except OSError:
            return -1, None
        if record is None or not self._binds(record.representation):
            return data, None
        with open(data, "rb", closefd=False) as file:
            held, crc = _journal.proved(file, record)
        return data, (record.representation, held, Hasher(record.sum, crc))

    def _binds(self, known: Representation) -> bool:
        """Whether a continuation can be bound to this version, by a strong tag or by a digest in the end."""
        return known.etag is not None or bool(self._options.wanted(known.digests))

    def _begin_again(self, folder: Path) -> None:
        """Cut off what is not proved, and go on with the journal."""
        self._marked, self._resumable, self._headed = self.held, True, True
        self._disk.truncate(self._data, self.held)
        self._journal = self._disk.open(folder / _partial.JOURNAL, os.O_RDWR)
        self._journal_end = os.fstat(self._journal).st_size
        self._append(b"\n")  # a line torn by the kill ends here, not inside the next one

    def _count(self, data: memoryview) -> None:
        """These bytes follow what is held, and are in the file."""
        self._behind.settle()
        self._mark_when_due()
        done = self._behind.take(data, quick=self._sum.quick)
        self.held += len(data)
        if done:
            self._mark_when_due()

    def _check(self, data: memoryview | bytes) -> None:
        self._sum.update(data)

    def _mark_when_due(self) -> None:
        if self.held - self._durable >= self._options.checkpoint_bytes:
            self._mark(durable=True)
        elif self.held - self._marked >= min(_LAST_MARK, max(_FIRST_MARK, self.held >> _MARK_SHARE)):
            self._mark()

    def _mark(self, *, durable: bool = False) -> None:
        if not self._resumable or self.representation is None or self._folder is None:
            return
        self._behind.settle()
        if self._journal < 0:
            self._journal = self._disk.open(
                self._folder / _partial.JOURNAL, os.O_RDWR | os.O_CREAT | os.O_EXCL
            )
        if durable:
            self._disk.sync(self._data)  # the data before the record that claims it
        if not self._headed:
            self._append(_journal.head(self._identity, self.representation, self._sum.algorithm, self._url))
            self._headed = True
        self._append(_journal.mark(self.held, self._sum.crc))
        if self.held - self._marked >= _LAST_MARK:
            self._disk.begin(self._data, self._marked, self.held - self._marked)
        self._marked = self.held
        if durable:
            self._disk.sync(self._journal)
            if not self._durable:
                self._sync_folder(self._folder)
                self._sync_folder(self.dest.parent)
            self._durable = self.held

    def _append(self, line: bytes) -> None:
        self._write(self._journal, memoryview(line), self._journal_end)
        self._journal_end += len(line)

    def _write(self, fd: int, data: memoryview, offset: int) -> None:
        while data:
            done = self._disk.write(fd, data, offset)
            data, offset = data[done:], offset + done

    def _sync_folder(self, path: Path) -> None:
        fd = self._disk.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._disk.sync(fd)
        finally:
            os.close(fd)

    def _leave(self) -> None:
        self._behind.close()
        for fd in (self._data, self._journal):
            if fd >= 0:
                os.close(fd)
        self._data = self._journal = -1
        if self._folder is None:
            return
        if not self._published and self._marked and self._resumable:
            try:
                _partial.release(self._folder, self.dest)
            except OSError:
                pass  # it stays under our name, and is found once this process is gone
        else:
            _partial.discard(self._folder)

    @contextmanager
    def _guard(self, what: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise SinkError(f"{what} ({self.dest}): {reason}", error) from error
