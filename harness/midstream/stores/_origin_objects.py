"""What the origin holds: generated objects, uploaded bytes, and the files of a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from midstream._content import GENERATIONS, Content
from midstream.stores import Traits
from midstream.stores._origin_answer import Digests, Item

SMALL = 1 << 20  # objects up to here are kept as bytes, at most 64 of them
# Last-Modified of generation g is this plus g days: it changes with the object even within one second, and
# lies far enough back to count as a strong validator (RFC 9110 8.8.2.2).
EPOCH = 1_577_836_800  # 2020-01-01
DAY = 86_400


@lru_cache(maxsize=64)
def _whole(content: Content) -> bytes:
    return content.whole()


def _digests(blocks: Iterable[bytes]) -> Digests:
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    for block in blocks:
        md5.update(block)
        sha256.update(block)
    return Digests(base64.b64encode(md5.digest()).decode(), base64.b64encode(sha256.digest()).decode())


@lru_cache(maxsize=1024)
def _content_digests(content: Content) -> Digests:
    return _digests(content.blocks())


def _same(digests: Digests) -> Digests:
    return digests


def generated(content: Content, traits: Traits) -> Item:
    """An object made on demand; its ETag reads generation-seed-size.

    What can be made while somebody waits for a response, is made when somebody asks: a put costs nothing.
    """
    if not 1 <= content.generation <= GENERATIONS:
        raise ValueError(f"generation {content.generation}: there are 1 to {GENERATIONS}")
    read, digests = content.read, partial(_content_digests, content)
    if content.size <= SMALL:

        def read(start: int, length: int) -> bytes:
            return _whole(content)[start : start + length]

    elif traits.digest:
        digests = partial(_same, digests())

    return Item(
        size=content.size,
        tag=f"g{content.generation}-{content.seed}-{content.size}",
        modified=EPOCH + DAY * content.generation,
        read=read,
        traits=traits,
        digests=digests if traits.digest else None,
    )


class File:
    """A file opened once, so that it stays the same file for as long as it is sent."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.stat = os.fstat(self._fd)

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._fd, length, start)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Made:
    """One time that an object was made, `by` put, ietf, tus or, out of band, harness."""

    size: int
    etag: str | None
    by: str


class Objects:
    """Objects by key; a key that is not held is looked for as a file below `root`."""

    def __init__(self, root: Path | None = None) -> None:
        self._items: dict[str, Item] = {}
        self._made: dict[str, list[Made]] = {}
        self._root = root.resolve() if root else None

    def put(self, key: str, item: Item, by: str) -> bool:
        """Store an object; whether it replaces one."""
        known = key in self._items
        self._items[key] = item
        self._made.setdefault(key, []).append(Made(item.size, item.etag, by))
        return known

    def made(self, key: str) -> list[Made]:
        """Every time an object of this name was made, the oldest first, also when it was deleted since."""
        return self._made.get(key, [])

    def get(self, key: str) -> Item | None:
        return self._items.get(key) or (self._file(key) if self._root else None)

    def delete(self, key: str) -> bool:
        return self._items.pop(key, None) is not None

    def keys(self) -> list[str]:
        files: list[str] = []
        if self._root:
            files = [p.relative_to(self._root).as_posix() for p in self._root.rglob("*") if p.is_file()]
        return sorted({*self._items, *files})

    def _file(self, key: str) -> Item | None:
        assert self._root
        try:
            path = (self._root / key).resolve()
            if not path.is_relative_to(self._root):
                return None
            file = File(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(file.stat.st_mode):
            return None
        return Item(
            size=file.stat.st_size,
            tag=f"{file.stat.st_mtime_ns:x}-{file.stat.st_size:x}-{file.stat.st_ino:x}",
            modified=int(file.stat.st_mtime),
            read=file.read,
        )
