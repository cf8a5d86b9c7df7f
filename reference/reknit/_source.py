"""Where the bytes of an upload come from: read at offsets, as often as it takes, and watched for changes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from reknit._checksums import Digest, Hasher
from reknit._errors import CallerError, SourceError
from reknit._upload_events import Piece

_BLOCK = 1 << 20
# A stream up to this stays in memory while it is spooled.
_SPOOL = 8 << 20


class Source:
    """`size` bytes behind a descriptor or a seekable object. Raises SourceError for what cannot be read.

    `identity` says which file it is, in which state, where that can be told: a later process may go on with
    what it sent of that.
    """

    def __init__(
        self, name: str, file: BinaryIO, start: int, size: int, path: Path | None, own: bool
    ) -> None:
        self.name, self.size = name, size
        self._file, self._start, self._path, self._own = file, start, path, own
        self._lock = threading.Lock()
        self._fd = _descriptor(file)
        self._facts = self._look()
        self.identity = "-".join(map(str, self._facts)) if path is not None and self._facts else ""

    def read(self, offset: int, size: int) -> memoryview:
        """Exactly these bytes."""
        buffer = memoryview(bytearray(size))
        at = 0
        while at < size:
            try:
                got = self._read_into(buffer[at:], self._start + offset + at)
            except (OSError, ValueError) as error:
                raise SourceError(f"cannot read {self.name}: {_reason(error)}", error) from error
            if not got:
                raise SourceError(f"{self.name} ended at byte {offset + at} of {self.size}: it has shrunk")
            at += got
        return buffer

    def check(self) -> None:
        """It is still what it was in the beginning: same file, same size, not written to."""
        try:
            now, there = (
                self._look(),
                self._path is None or os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()),
            )
        except FileNotFoundError as error:
            raise SourceError(f"{self.name} was removed during the upload", error) from error
        except (OSError, ValueError) as error:
            raise SourceError(f"cannot look at {self.name}: {_reason(error)}", error) from error
        if not there:
            raise SourceError(f"{self.name} was replaced during the upload")
        if now != self._facts:
            raise SourceError(f"{self.name} changed during the upload")

    def wrong(self, digests: tuple[Digest, ...]) -> Digest | None:
        """The first of the digests that the bytes do not have."""
        hashers = {digest.algorithm: Hasher(digest.algorithm) for digest in digests}
        for offset in range(0, self.size, _BLOCK):
            block = self.read(offset, min(_BLOCK, self.size - offset))
            for hasher in hashers.values():
                hasher.update(block)
        return next((d for d in digests if hashers[d.algorithm].hexdigest() != d.value), None)

    def close(self) -> None:
        """Close what we opened; a caller's object is left open, its position where it was found."""
        if self._own:
            self._file.close()
        elif self._fd < 0:
            with suppress(OSError, ValueError):
                self._file.seek(self._start)

    def _look(self) -> tuple[int, ...]:
        if self._fd < 0:
            with self._lock:
                return (self._file.seek(0, os.SEEK_END) - self._start,)
        facts = os.fstat(self._fd)
        return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns

    def _read_into(self, buffer: memoryview, offset: int) -> int:
        if self._fd >= 0:
            return os.preadv(self._fd, [buffer], offset)
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Held:
    """A body in memory: what is sent again is what was hashed."""

    def __init__(self, source: Source, piece: Piece, *, summed: bool = False) -> None:
        self.size = piece.size
        self._source, self._last = source, piece.last
        self._data = source.read(piece.offset, piece.size)
        self.md5 = hashlib.md5(self._data, usedforsecurity=False).hexdigest()
        self.crc32 = zlib.crc32(self._data) if summed else None

    def blocks(self) -> Iterator[memoryview]:
        """All at once, the last ones only if the source is still what it was."""
        if self._last:
            self._source.check()
        yield self._data


class Flowing:
    """A body read as it is sent, from its first byte each time. The last block goes out only if the source is
    still what it was: a request that ends unfinished publishes nothing (RFC 9112 §8)."""

    md5 = ""
    crc32: int | None = None

    def __init__(self, source: Source, piece: Piece) -> None:
        self.size = piece.size
        self._source, self._piece = source, piece

    def blocks(self) -> Iterator[memoryview]:
        """In blocks of a megabyte."""
        end = self._piece.offset + self.size
        if not self.size:
            self._source.check()
        for offset in range(self._piece.offset, end, _BLOCK):
            block = self._source.read(offset, min(_BLOCK, end - offset))
            if offset + _BLOCK >= end:
                self._source.check()
            yield block


def open_source(given: str | os.PathLike[str] | Any, size: int | None = None) -> Source:
    """A path, a seekable binary file (from its position on), or a stream, which is spooled to a temporary
    file. Raises SourceError, also when it does not have `size` bytes, and CallerError for something else."""
    source = _open(given)
    if size is not None and source.size != size:
        source.close()
        raise SourceError(f"{source.name} has {source.size} bytes, not {size}")
    return source


def _open(given: str | os.PathLike[str] | Any) -> Source:
    if isinstance(given, (str, os.PathLike)):
        return _from_path(Path(given))
    if not hasattr(given, "read") or isinstance(given, io.TextIOBase):
        raise CallerError(f"not a source: a path or a binary file, not {type(given).__name__}")
    name = str(getattr(given, "name", "the source"))
    try:
        if not (hasattr(given, "seekable") and given.seekable()):
            return _spooled(given, name)
        start = given.tell()
        size = given.seek(0, os.SEEK_END) - start
        given.seek(start)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {name}: {_reason(error)}", error) from error
    if size < 0:
        raise CallerError(f"{name} is positioned beyond its end")
    return Source(name, given, start, size, None, own=False)


def _from_path(path: Path) -> Source:
    try:
        file = path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot read {path}: {_reason(error)}", error) from error
    facts = os.fstat(file.fileno())
    if stat.S_ISREG(facts.st_mode):
        return Source(str(path), file, 0, facts.st_size, path, own=True)
    with file:
        return _spooled(file, str(path))


def _spooled(stream: Any, name: str) -> Source:
    """Read to its end before anything is sent: a stream that breaks off must not become an object."""
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL)  # noqa: SIM115  # closed by the Source
    size = 0
    try:
        while True:
            try:
                block = stream.read(_BLOCK)
            except (OSError, ValueError) as error:
                raise SourceError(f"cannot read {name}: {_reason(error)}", error) from error
            if not isinstance(block, (bytes, bytearray, memoryview)):
                if block is None:
                    raise SourceError(f"cannot read {name}: it does not block, and has nothing ready")
                raise CallerError(f"{name} gave {type(block).__name__}, not bytes")
            if not block:
                return Source(name, spool, 0, size, None, own=True)  # type: ignore[arg-type]
            try:
                size += spool.write(block)
            except OSError as error:
                raise SourceError(f"cannot spool {name}: {_reason(error)}", error) from error
    except BaseException:
        spool.close()
        raise


def _descriptor(file: BinaryIO) -> int:
    """The descriptor of a plain file that nothing stands in front of, else -1."""
    if type(file) not in (io.FileIO, io.BufferedReader):
        return -1  # an object of its own: gzip's, for one, has the descriptor of what it unpacks
    try:
        fd = file.fileno()
        return fd if stat.S_ISREG(os.fstat(fd).st_mode) else -1
    except (OSError, ValueError):
        return -1


def _reason(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
