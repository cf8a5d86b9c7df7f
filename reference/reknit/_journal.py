"""The record beside a partial. Damage to it, or to the partial, costs a re-download and never a wrong byte.

One line per entry: the CRC-32 of the rest in hexadecimal, a space, JSON. A head names the object (URL
identity, total, validator, coding, digests: RFC 9110 §15.3.7.3) and the CRC of its marks; a mark
`[offset, crc]` states that of the partial's first `offset` bytes. What a mark claims is checked against the
partial before it is believed, so marks may be written without a flush: zeros after a power cut, a tampered
or swapped file do not fit any mark behind them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from reknit._checksums import Digest, Hasher, available
from reknit._representation import Representation

VERSION = 2
SUMS = ("crc32", "crc64nvme")  # what marks may be made of; the second needs awscrt
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Record:
    """What a journal says: the version the partial belongs to, and the marks, ascending."""

    representation: Representation
    marks: tuple[tuple[int, int], ...]
    sum: str = SUMS[0]
    """Which of SUMS they are of."""
    url: str = ""
    """For people; without what may be a secret."""
    identity: str = ""
    """Of the object, as its store has it."""


def head(identity: str, representation: Representation, kind: str, url: str = "") -> bytes:
    """The line that names the object. A later head replaces an earlier one."""
    return line({"reknit": VERSION, "object": identity, "url": url, "sum": kind, **asdict(representation)})


def sum_for(digests: Iterable[Digest]) -> str:
    """Which of SUMS to make marks of where these will be verified: awscrt's is quick, and is loaded then."""
    return "crc64nvme" if any(d.algorithm == "crc64nvme" for d in digests) else "crc32"


def mark(offset: int, crc: int) -> bytes:
    """The line that claims `offset` bytes."""
    return line([offset, crc])


def read(lines: Iterable[bytes], identity: str | None) -> Record | None:
    """Read a journal; None unless it names `identity` (None: any object). Damaged lines count as absent."""
    found: Representation | None = None
    url, kind, named = "", SUMS[0], None
    marks: set[tuple[int, int]] = set()
    for said in map(entry, lines):
        if isinstance(said, dict):
            version, named = said.pop("reknit", None), said.pop("object", None)
            if version != VERSION or (identity is not None and named != identity):
                return None
            url, kind = str(said.pop("url", "")), said.pop("sum", "")
            if kind not in SUMS or not available(kind):
                return None
            found = _representation(said)
        elif isinstance(said, list) and len(said) == 2 and all(type(number) is int for number in said):
            marks.add((said[0], said[1]))
    return None if found is None else Record(found, tuple(sorted(marks)), kind, url, str(named))


def proved(data: BinaryIO, record: Record) -> tuple[int, int]:
    """The longest prefix of `data` that a mark proves, as (bytes, crc); none beyond the object's end."""
    best = (0, 0)
    at, running, total = 0, Hasher(record.sum), record.representation.total
    for offset, claimed in record.marks:
        if total is not None and offset > total:
            break
        while at < offset:
            block = data.read(min(_BLOCK, offset - at))
            if not block:
                return best
            running.update(block)
            at += len(block)
        # One that does not fit may be a leftover of an earlier run: a later one may fit again.
        if running.crc == claimed:
            best = (at, claimed)
    return best


def line(entry: object) -> bytes:
    """One line, guarded by its CRC."""
    text = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def entry(line: bytes) -> Any:
    """What the line says; None when it is damaged."""
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    try:
        return json.loads(text) if int(crc, 16) == zlib.crc32(text) else None
    except ValueError:
        return None


def _representation(said: dict[str, Any]) -> Representation | None:
    try:
        digests = tuple(Digest(**digest) for digest in said.pop("digests"))
        found = Representation(**said, digests=digests)
    except (TypeError, KeyError):
        return None
    texts = (found.etag or "", found.weak, found.modified, found.media, found.coding)
    whole = found.total is None or (type(found.total) is int and found.total >= 0)
    return found if whole and all(isinstance(text, str) for text in texts) else None
