"""Uploads under way: a file without a name for each, taken over by whoever asks last."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO

from reknit._checksums import Digest, Hasher, offered

UNTOUCHED = 24 * 3600.0  # then nobody comes back for it; S3's own lifecycles count in days
_BLOCK = 1 << 20


class TakenOver(Exception):
    """Another request has asked for the upload since: this one may not write any more."""


@dataclass
class Upload:
    """What came so far of one object. `conditions` are the fields of the request that began it."""

    key: str
    conditions: Mapping[str, str]
    length: int | None
    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    offset: int = 0
    answer: tuple[int, list[tuple[str, str]]] | None = None
    """Once the store has it: what was, or should have been, told."""
    touched: float = field(default_factory=time.monotonic)
    turn: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def take_over(self) -> int:
        """From here on, only the holder of the number returned may write."""
        with self.lock:
            self.turn += 1
            self.touched = time.monotonic()
            return self.turn

    def write(self, turn: int, data: bytes) -> None:
        """Append. Raises TakenOver, and OSError when there is no room."""
        with self.lock:
            if turn != self.turn:
                raise TakenOver
            self.file.seek(self.offset)
            self.file.write(data)
            self.file.flush()
            self.offset += len(data)

    def wrong(self, *, part: bool) -> Digest | None:
        """The first digest its creator named that the bytes do not have; `part`: the content was not all."""
        wanted = offered(self.conditions, etag_is_md5=False, part=part)
        hashers = [(digest, Hasher(digest.algorithm)) for digest in wanted]
        self.file.seek(0)
        while hashers and (block := self.file.read(_BLOCK)):
            for _, hasher in hashers:
                hasher.update(block)
        return next((digest for digest, hasher in hashers if hasher.hexdigest() != digest.value), None)

    def drop(self) -> None:
        """Give back the disk."""
        with self.lock:
            self.turn += 1
            self.file.close()


class Uploads:
    """The uploads that can be asked for again, by a name that cannot be guessed."""

    def __init__(self) -> None:
        self._known: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def add(self, upload: Upload) -> str:
        """Remember it; what nobody has touched for long is dropped."""
        name = secrets.token_urlsafe(24)
        with self._lock:
            for old in [n for n, u in self._known.items() if time.monotonic() - u.touched > UNTOUCHED]:
                self._known.pop(old).drop()
            self._known[name] = upload
        return name

    def get(self, name: str) -> Upload | None:
        with self._lock:
            return self._known.get(name)

    def remove(self, name: str) -> None:
        with self._lock:
            found = self._known.pop(name, None)
        if found is not None:
            found.drop()
