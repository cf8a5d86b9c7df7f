"""Digests a request declares of what it sends: Content-MD5, Content-Digest, Repr-Digest, Upload-Checksum."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import partial

from midstream._wire import Head
from midstream.stores._origin_answer import Digests, Item

# Names of RFC 9530 (and of tus, which has its own spelling) by what hashlib calls them. Other algorithms are
# ignored, as RFC 9530 section 2 has it.
ALGORITHMS = {
    "md5": "md5",
    "sha": "sha1",
    "sha1": "sha1",
    "sha-256": "sha256",
    "sha256": "sha256",
    "sha-512": "sha512",
}
_DIGEST = re.compile(r"\s*([a-z0-9-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?")


def declared(value: str | None) -> dict[str, str]:
    """Algorithm (of hashlib) and digest in base64, from the value of Content-Digest or Repr-Digest."""
    found = _DIGEST.findall(value or "")
    return {ALGORITHMS[name]: digest for name, digest in found if name in ALGORITHMS}


def digest_of(algorithm: str, data: bytes | bytearray) -> str:
    """A digest in base64."""
    return base64.b64encode(hashlib.new(algorithm, data, usedforsecurity=False).digest()).decode()


class Received:
    """Bytes as they come in. Their digests are taken on the way: the end of a long upload costs nothing."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray()
        self._md5, self._sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        self.add(data)

    def add(self, data: bytes) -> None:
        self.data += data
        self._md5.update(data)
        self._sha256.update(data)

    def digest(self, algorithm: str) -> str:
        """A digest of what has come, in base64."""
        known = {"md5": self._md5, "sha256": self._sha256}.get(algorithm)
        return base64.b64encode(known.digest()).decode() if known else digest_of(algorithm, self.data)

    def differs(self, wanted: Mapping[str, str]) -> str | None:
        """The first algorithm whose digest is not the one wanted."""
        return next((name for name, digest in wanted.items() if self.digest(name) != digest), None)

    def item(self, now: float) -> Item:
        """An object of these bytes; they must not change any more."""
        data = memoryview(self.data).toreadonly()
        digests = Digests(self.digest("md5"), self.digest("sha256"))
        return Item(
            size=len(data),
            tag=self._sha256.hexdigest()[:32],
            modified=int(now),
            read=partial(_slice, data),
            digests=partial(_same, digests),
        )


def _slice(data: memoryview, start: int, length: int) -> bytes:
    return bytes(data[start : start + length])


def _same(digests: Digests) -> Digests:
    return digests


def of_content(head: Head) -> dict[str, str]:
    """What Content-Digest and Content-MD5 (RFC 1864) declare of a request's content."""
    wanted = declared(head.get("content-digest"))
    if (md5 := head.get("content-md5")) is not None:
        wanted["md5"] = md5.strip()
    return wanted
