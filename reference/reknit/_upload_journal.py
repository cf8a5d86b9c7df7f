"""The record of an upload in parts: for a later process to go on with, and to find what could not be removed.

One folder for each upload below the journal's folder, owned and claimed as partial downloads are (_partial),
with a file of lines guarded as theirs (_journal). A head names the target, the source and the part size; then
come the session, the parts that are stored with tag and MD5, and why it was left if it could not be removed.
Damage costs parts that are sent again. Nothing in it is believed before the store has confirmed it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reknit import _partial
from reknit._errors import SinkError
from reknit._journal import entry, line
from reknit._upload_events import Stored

VERSION = 1


@dataclass(frozen=True, slots=True)
class About:
    """Which upload it is. `url` is for people, and holds no secret; `source` is empty where only the bytes
    themselves can tell whether it is the same."""

    target: str
    url: str
    size: int
    part_size: int
    source: str = ""

    def same(self, other: About) -> bool:
        """Whether what was stored for the other may be of use for this one."""
        return replace(self, url="") == replace(other, url="")


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of one earlier upload."""

    about: About
    session: str
    parts: tuple[Stored, ...]
    orphan: str
    """Why it was left in the store, if it could not be removed."""


class UploadJournal:
    """The record of one upload. Raises SinkError for what the disk refuses."""

    def __init__(self, folder: Path, about: About) -> None:
        self._about = about
        self._dest = folder / hashlib.sha256(about.target.encode()).hexdigest()[:32]
        self._fd, self._path = -1, None
        self.earlier: Record | None = None
        """What an earlier process left of this very upload."""
        self.superseded: list[tuple[Path, Record]] = []
        """What earlier ones left of other uploads to this target, to be removed from the store."""
        with self._guard("cannot write the upload's journal"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim()
            if self._path is None:
                self._path = _partial.create(self._dest)
            self._fd = os.open(
                self._path / _partial.JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
            # A line torn by a kill ends here, not inside the next one.
            self._write(b"\n" if self.earlier else _head(about))

    _path: Path | None

    def session(self, name: str) -> None:
        """An upload was begun: from here on there is something to be found again, after a power cut too."""
        with self._guard("cannot write the upload's journal"):
            self._write(line({"session": name}))
            os.fsync(self._fd)

    def part(self, part: Stored) -> None:
        """A part is stored."""
        with self._guard("cannot write the upload's journal"):
            self._write(line([part.number, part.size, part.tag, part.md5]))

    def forget(self) -> None:
        """The session is over: a later line must not be taken for a part of it."""
        with self._guard("cannot write the upload's journal"):
            os.ftruncate(self._fd, 0)
            self._write(_head(self._about))

    def orphan(self, why: str) -> None:
        """It could not be removed from the store."""
        with self._guard("cannot write the upload's journal"):
            self._write(line({"orphan": why}))
            os.fsync(self._fd)

    def close(self, *, keep: bool) -> None:
        """Leave the record to whoever comes next, or remove it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._path is not None:
            _leave(self._path, self._dest, keep)
        self._path = None

    def resolve(self, path: Path, *, gone: bool) -> None:
        """A superseded upload was removed from the store, or not."""
        _leave(path, self._dest, not gone)

    def _claim(self) -> None:
        for path in _partial.claim_all(self._dest):
            record = read(path)
            if record is None or not record.session:
                _partial.discard(path)
            elif self.earlier is None and record.about.same(self._about):
                self.earlier, self._path = record, path
            elif record.about.target == self._about.target:
                self.superseded.append((path, record))

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    @contextmanager
    def _guard(self, what: str) -> Generator[None, None, None]:
        try:
            yield
        except OSError as error:
            self.close(keep=True)
            raise SinkError(f"{what} ({self._dest.parent}): {error.strerror}", error) from error


def default_folder() -> Path:
    """Where the records are when the caller names no place (XDG Base Directory Specification)."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "reknit" / "uploads"


def records(folder: Path) -> list[tuple[Path, Record]]:
    """Every upload recorded there, those under way included."""
    try:
        found = sorted(path for path in folder.iterdir() if ".reknit-" in path.name)
    except OSError:
        return []
    return [(path, record) for path in found if (record := read(path)) is not None]


def read(path: Path) -> Record | None:
    """The record in this folder; None when there is none that can be read."""
    try:
        lines = (path / _partial.JOURNAL).read_bytes().splitlines()
    except OSError:
        return None
    return _parse(map(entry, lines))


def _parse(entries: Iterable[object]) -> Record | None:
    about: About | None = None
    session, orphan = "", ""
    parts: dict[int, Stored] = {}
    for said in entries:
        try:
            if isinstance(said, list):
                number, size, tag, md5 = said
                parts[number] = Stored(number, size, tag, md5)
            elif isinstance(said, dict) and "session" in said:
                session, orphan, parts = str(said["session"]), "", {}
            elif isinstance(said, dict) and "orphan" in said:
                orphan = str(said["orphan"])
            elif isinstance(said, dict) and said.pop("reknit-upload", None) == VERSION:
                about = About(**said)
        except (TypeError, ValueError):
            continue
    return None if about is None else Record(about, session, tuple(parts.values()), orphan)


def _head(about: About) -> bytes:
    fields = {name: getattr(about, name) for name in About.__slots__}
    return line({"reknit-upload": VERSION, **fields})


def _leave(path: Path, dest: Path, keep: bool) -> None:
    if not keep:
        _partial.discard(path)
        return
    try:
        _partial.release(path, dest)
    except OSError:
        pass  # it stays under our name, and is found once this process is gone
