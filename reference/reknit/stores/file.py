"""Files of this machine: file:///path. Random access, with the inode's own facts for a validator."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._representation import Dialect
from reknit._upload_events import Shape, Told
from reknit.stores._base import Head, Response, pinned
from reknit.stores._uploader import Body, UploaderBase

SCHEMES = ("file",)


class FileStore:
    """One file. It answers in the words of HTTP, so that one machine judges all stores."""

    dialect = Dialect("If-Match")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.identity = f"file {path}"

    def stat(self) -> Response:
        """Size and validator."""
        try:
            return Head(200, _head(self._facts()))
        except OSError as error:
            return _refusal(error)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """200 or 206, 412 when the file is another one now, 416 past its end."""
        try:
            fd = self._open()
        except OSError as error:
            return _refusal(error)
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            os.close(fd)
            return Head(400, {"x-reknit-error": "not a regular file"})
        status, head, end = pinned(_head(facts), first, last, etag)
        if status in (412, 416):
            os.close(fd)
            return Head(status, head)
        return _Body(status, head, fd, first, end)

    def renew(self) -> bool:
        """A file has no credentials."""
        return False

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def _facts(self) -> os.stat_result:
        return self.path.stat()


class HeldFile(FileStore):
    """A file that is open already, and may have no name any more."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(Path(str(file.name)))
        self._file = file

    def close(self) -> None:
        """Give it back."""
        self._file.close()

    def _open(self) -> int:
        return os.dup(self._file.fileno())

    def _facts(self) -> os.stat_result:
        return os.fstat(self._file.fileno())


class _Body(Head):
    def __init__(self, status: int, headers: dict[str, str], fd: int, first: int, end: int) -> None:
        super().__init__(status, headers)
        self._fd, self._at, self._end = fd, first, end

    def read(self, limit: int) -> bytes | memoryview:
        """Bytes at the position; the file must still be the one that was opened."""
        try:
            data = os.pread(self._fd, min(limit, self._end - self._at), self._at)
            now = _head(os.fstat(self._fd))["etag"]
        except OSError as error:
            raise StoreFault("protocol", f"read error: {error.strerror}") from error
        # The bytes are only good if nobody had written to the file when they were read.
        if now != self.headers["etag"] or (not data and self._at < self._end):
            raise StoreFault("changed", "the file changed while it was read")
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class FileUploader(UploaderBase):
    """A temporary file beside the target, flushed, then renamed onto it."""

    shape = Shape("whole", FileStore.dialect)

    def __init__(self, store: FileStore, path: Path) -> None:
        self._store, self._path = store, Path(os.path.realpath(path))
        self.identity = store.identity

    def put(self, body: Body) -> Told:
        """The name holds the old content or all of the new, after a power cut too."""
        beside = self._path.parent / f".{self._path.name[:150]}.reknit-put-{secrets.token_hex(4)}"
        try:
            if self._path.exists() and not self._path.is_file():
                return Told(409, {"x-reknit-error": "not a regular file"})
            with beside.open("xb", buffering=0) as file:
                for block in body.blocks():
                    while block:
                        block = block[file.write(block) :]
                os.fsync(file.fileno())
            beside.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            return Told(_status(error), {"x-reknit-error": error.strerror or ""})
        finally:
            with suppress(OSError):
                beside.unlink()
        return Told(201, {})

    def stat(self) -> Told:
        """Size and validator."""
        head = self._store.stat()
        return Told(head.status, head.headers)


def uploader(url: str, options: Options) -> FileUploader:
    """The way to store one file. Raises CallerError unless the URL is file:///absolute/path."""
    store = connect(url, options)
    return FileUploader(store, store.path)


def connect(url: str, options: Options) -> FileStore:
    """A store for one file. Raises CallerError unless the URL is file:///absolute/path."""
    if options.store:
        raise CallerError(f"file:// has no settings: {', '.join(sorted(options.store))}")
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise CallerError(f"not a file URL (file:///path): {url!r}")
    return FileStore(Path(unquote(parts.path)))


def _head(facts: os.stat_result) -> dict[str, str]:
    names = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    return {"content-length": str(facts.st_size), "etag": '"{}"'.format("-".join(map(str, names)))}


def _refusal(error: OSError) -> Response:
    return Head(_status(error), {"x-reknit-error": error.strerror or ""})


def _status(error: OSError) -> int:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 507  # RFC 4918 §11.5; not one to be asked again
    return {FileNotFoundError: 404, NotADirectoryError: 404, PermissionError: 403}.get(type(error), 400)
