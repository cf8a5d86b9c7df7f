"""What interrupted transfers left behind: `find` lists it, `clean` removes it.

    for left in reknit.resume.find("/var/lib/images"):
        print(left.url, left.state, left.usable, left.total)
    reknit.resume.clean("/var/lib/images")

Nothing here is needed to go on: the same download or upload again does that by itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reknit import _journal, _partial, _upload_journal
from reknit._errors import SinkError
from reknit._url import shown

__all__ = ["Left", "clean", "find", "kept", "uploads"]


@dataclass(frozen=True, slots=True)
class Left:
    """One interrupted transfer, or one under way."""

    path: Path
    """The folder it lives in."""
    name: str
    """For a download: the name of the file it is to become (or the SHA-256 of a very long one)."""
    url: str
    """Where it comes from or goes to, without what may be a secret; empty when nothing readable says so."""
    at: str
    """The endpoint of the store, where the URL does not say it; empty for the usual one."""
    state: str
    """running, resumable, useless, elsewhere (of another machine), or orphan (an upload not removed)."""
    why: str
    size: int
    """Bytes it takes on this disk."""
    usable: int
    """Bytes that need not be sent again: proved by the journal, or said to be stored."""
    total: int | None
    """How many there are in the end, where that is known."""
    age: float
    """Seconds since it was last written to; never negative, whatever the clock did."""


def find(folder: str | Path = ".") -> list[Left]:
    """The downloads in `folder` that are not finished. A journal's claim is checked against the bytes, which
    reads them all; nothing is changed. Raises SinkError when the folder cannot be read.
    """
    try:
        return [_download(path, name) for path, name in _partial.find(Path(folder)) if path.is_dir()]
    except OSError as error:
        raise SinkError(f"cannot read {folder}: {error.strerror}", error) from error


def uploads(journal: str | Path | None = None) -> list[Left]:
    """The uploads recorded in `journal` (without: where `reknit.upload` records them)."""
    folder = Path(journal) if journal else _upload_journal.default_folder()
    return [_upload(path, record) for path, record in _upload_journal.records(folder)]


def kept(dest: str | Path) -> int:
    """How many bytes a download to `dest` would go on with, as their journals say: the bytes are not read."""
    most = 0
    with suppress(OSError):
        for path in _partial.of(Path(os.path.realpath(dest))):
            if _partial.owner(path) in ("free", "gone"):
                with (path / _partial.JOURNAL).open("rb") as lines:
                    record = _journal.read(lines, None)
                most = max([most, *(offset for offset, _ in (record.marks if record else ()))])
    return most


def clean(folder: str | Path = ".") -> list[Left]:
    """Remove the downloads in `folder` that no process works on; which were removed.

    One of another machine goes when it has not been written to for an hour. Uploads are not touched: their
    record is all that finds the parts in the store. The same upload again continues or removes them.
    """
    return [left for left in find(folder) if left.state != "running" and _partial.remove(left.path)]


def _download(path: Path, name: str) -> Left:
    state, why, usable = "useless", "no journal: nothing of it is proved", 0
    record, size = None, _size(path)
    owner = _partial.owner(path)
    try:
        with (path / _partial.JOURNAL).open("rb") as lines:
            record = _journal.read(lines, None)
        why = "its journal is damaged, or of another version of reknit"
    except OSError:
        pass
    version = record.representation if record else None
    if owner == "running":
        state, why = "running", "a process works on it"
    elif owner == "elsewhere":
        state, why = "elsewhere", "a process of another machine may work on it"
    elif record and version and version.etag is None and not version.digests:
        why = "neither a strong entity tag nor a digest binds it to one version of the object"
    elif record:
        usable = _proved(path, record)
        state, why = ("resumable", "") if usable else ("useless", "its bytes are not what its journal says")
    total = version.total if version else None
    url, at = (record.url, _endpoint(record.identity)) if record else ("", "")
    return Left(path, name, url, at, state, why, size, usable, total, _age(path))


def _endpoint(identity: str) -> str:
    """Of an identity as the stores make it: `s3 http://host bucket/key`."""
    kind, _, rest = identity.partition(" ")
    first = rest.partition(" ")[0]
    return shown(first) if kind in ("s3", "swift") and "://" in first else ""


def _proved(path: Path, record: _journal.Record) -> int:
    try:
        with (path / _partial.DATA).open("rb") as data:
            return _journal.proved(data, record)[0]
    except OSError:
        return 0


def _upload(path: Path, record: _upload_journal.Record) -> Left:
    owner, state, why = _partial.owner(path), "resumable", ""
    if owner == "running":
        state, why = "running", "a process works on it"
    elif owner == "elsewhere":
        state, why = "elsewhere", "a process of another machine may work on it"
    elif record.orphan:
        state, why = "orphan", f"could not be removed from the store: {record.orphan}"
    elif not record.session:
        state, why = "useless", "nothing was begun in the store"
    usable = sum(part.size for part in record.parts)
    about = record.about
    at = _endpoint(about.target)
    return Left(path, "", about.url, at, state, why, _size(path), usable, about.size, _age(path))


def _size(path: Path) -> int:
    try:
        return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in os.scandir(path))
    except OSError:
        return 0  # it was finished or removed just now


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - _partial.touched(path))
    except OSError:
        return 0.0
