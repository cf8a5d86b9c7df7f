"""Digests a store offers for the whole object, and the running hashes to compare them with."""

from __future__ import annotations

import base64
import binascii
import hashlib
import importlib.util
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_REPR_DIGEST = re.compile(r"([a-z0-9-]+)=:([A-Za-z0-9+/=]*):")
_RFC9530 = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
_AMZ = ("sha256", "sha1", "crc64nvme", "crc32c", "crc32")
_SIZES = {"sha512": 64, "sha256": 32, "sha1": 20, "md5": 16, "crc64nvme": 8, "crc32c": 4, "crc32": 4}
_OF_AWSCRT = ("crc32c", "crc64nvme")
# Strongest first: one digest is enough, and each one more costs a pass over the data.
_PREFERENCE = tuple(_SIZES)


@dataclass(frozen=True, slots=True)
class Digest:
    """`algorithm` and lower-case hexadecimal `value` of the whole object; `source` is where it was read."""

    algorithm: str
    value: str
    source: str

    @property
    def field(self) -> dict[str, str]:
        """Repr-Digest (RFC 9530 §3), by which a server may look at what it was sent; none for a CRC."""
        for name, algorithm in _RFC9530.items():
            if algorithm == self.algorithm:
                value = base64.b64encode(bytes.fromhex(self.value)).decode()
                return {"Repr-Digest": f"{name}=:{value}:"}
        return {}

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read "sha256:…" as a caller writes it. Raises ValueError when it is not a digest we can compute."""
        algorithm, _, value = text.partition(":")
        digest = cls(algorithm.lower().replace("-", ""), value.strip().lower(), "expected by the caller")
        size = _SIZES.get(digest.algorithm)
        if size is None or not re.fullmatch(f"[0-9a-f]{{{size * 2}}}", digest.value):
            raise ValueError(f"not a digest: {text!r} (write it like sha256:<64 hex digits>)")
        if not available(digest.algorithm):
            raise ValueError(f"{digest.algorithm} needs the awscrt package")
        return digest


def offered(headers: Mapping[str, str], *, etag_is_md5: bool, part: bool = False) -> tuple[Digest, ...]:
    """The digests of the whole object in the head of an answer; `part`: of one that holds a part of it.

    Content-Digest, Content-MD5 and S3's checksums cover the content of the message (RFC 9530 §2, RFC 1864),
    which is the whole representation in a 200 alone. S3's composite checksums, ending in -N or marked
    COMPOSITE, are digests of digests and left out. An ETag counts only where the store says it is an MD5.
    """
    found: list[Digest | None] = []
    for field in ("repr-digest",) if part else ("repr-digest", "content-digest"):
        for name, value in _REPR_DIGEST.findall(headers.get(field, "")):
            if name in _RFC9530:
                found.append(_from_base64(_RFC9530[name], value, field))
    if not part:
        fields = {"md5": "content-md5"}
        if headers.get("x-amz-checksum-type", "").upper() != "COMPOSITE":
            fields |= {name: f"x-amz-checksum-{name}" for name in _AMZ}
        found += [_from_base64(name, headers.get(field, ""), field) for name, field in fields.items()]
    etag = headers.get("etag", "").strip().strip('"').lower()
    if etag_is_md5 and re.fullmatch("[0-9a-f]{32}", etag):
        found.append(Digest("md5", etag, "etag"))
    return tuple(digest for digest in found if digest is not None)


def wanted(offers: Iterable[Digest], *, verify: bool, expect: Digest | None) -> tuple[Digest, ...]:
    """The digests to verify: the caller's, and the strongest of `offers` that can be computed here."""
    usable = [digest for digest in offers if verify and available(digest.algorithm)]
    best = min(usable, key=lambda digest: _PREFERENCE.index(digest.algorithm), default=None)
    return tuple(digest for digest in (expect, best) if digest is not None)


def proved(digests: Iterable[Digest]) -> str | None:
    """What was verified, in words for a report; None for nothing."""
    return ", ".join(f"{digest.algorithm} ({digest.source})" for digest in digests) or None


def unproved(offers: Iterable[Digest], etag: str | None, *, verify: bool, part: bool) -> str:
    """Why nothing was verified, in words for a report.

    An S3 object that was uploaded in parts has an ETag over its parts' digests, ending in their number; how
    large the parts were is not told, so it can be compared with nothing (S3 API: Checking object integrity).
    """
    if not verify:
        return "verification was turned off"
    if part:
        return "digests are of the whole object, and a part was asked for"
    if names := ", ".join(digest.algorithm for digest in offers if not available(digest.algorithm)):
        return f"{names} needs the awscrt package"
    if parts := re.fullmatch(r'"[0-9a-f]{32}-([0-9]+)"', etag or ""):
        return f"the store gives none of the whole object, only one over its {parts[1]} parts"
    return "the store gives none of the whole object"


def available(algorithm: str) -> bool:
    """Whether this process can compute `algorithm`: CRC32C and CRC64NVME come from awscrt alone."""
    if algorithm in _OF_AWSCRT:
        return importlib.util.find_spec("awscrt") is not None
    return algorithm in _SIZES


class Hasher:
    """One running digest; one that is a CRC can go on from the `crc` of the bytes before."""

    def __init__(self, algorithm: str, crc: int = 0) -> None:
        self.algorithm = algorithm
        self.crc = crc
        self._step: Callable[[Any, int], int] | None = None
        if algorithm == "crc32":
            self._step = zlib.crc32
        elif algorithm in _OF_AWSCRT:
            from awscrt import checksums  # optional, and only some S3 objects need it

            self._step = getattr(checksums, algorithm)
        else:
            self._hash = hashlib.new(algorithm, usedforsecurity=False)

    @property
    def quick(self) -> bool:
        """Whether a block is sooner hashed than handed to a thread: these two go at 65 GB/s."""
        return self.algorithm in _OF_AWSCRT

    def update(self, data: memoryview | bytes) -> None:
        """Take the next bytes."""
        if self._step is not None:
            self.crc = self._step(data, self.crc)
        else:
            self._hash.update(data)

    def hexdigest(self) -> str:
        """The digest of what was taken so far."""
        if self._step is not None:
            return f"{self.crc:0{_SIZES[self.algorithm] * 2}x}"
        return self._hash.hexdigest()


def crc32_of(parts: Iterable[tuple[int | None, int]]) -> int | None:
    """The CRC-32 of stretches in a row, from that of each and its size; None where one is not known."""
    whole = 0
    for crc32, size in parts:
        if crc32 is None:
            return None
        whole = joined_crc32(whole, crc32, size)
    return whole


def joined_crc32(first: int, second: int, size: int) -> int:
    """The CRC-32 of two stretches of bytes in a row, from that of each; the second has `size` bytes.

    As zlib's crc32_combine does it, which Python does not offer: appending n zero bits multiplies by x^n.
    """
    return _times(_power(8 * size), first) ^ second


# Of polynomials over GF(2) modulo the one of CRC-32, the lowest power in the highest bit.
_CRC32, _ONE, _X = 0xEDB88320, 1 << 31, 1 << 30


@lru_cache(maxsize=8)  # thousands of parts have two sizes
def _power(n: int) -> int:
    result, square = _ONE, _X
    while n:
        if n & 1:
            result = _times(square, result)
        square = _times(square, square)
        n >>= 1
    return result


def _times(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (_CRC32 if b & 1 else 0)
    return product


def _from_base64(algorithm: str, text: str, source: str) -> Digest | None:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    # A wrong length also drops the composite form, "<base64>-3", should the alphabet let it through.
    return Digest(algorithm, raw.hex(), source) if len(raw) == _SIZES[algorithm] else None
