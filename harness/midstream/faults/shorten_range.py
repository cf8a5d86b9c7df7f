"""The store answers with less of the range than was asked for, and says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import EditRequest, Verb
from midstream._wire import Head
from midstream.faults import AtRequest
from midstream.faults._payload import count


@dataclass(frozen=True)
class ShortenRange(AtRequest):
    """Limit the requested range to `n` bytes; the 206 is honest and complete in itself."""

    id: ClassVar[str] = "shorten-range"
    summary: ClassVar[str] = "have a ranged request answered by an honest 206 of at most n bytes"
    takes: ClassVar[str] = "a number of bytes (required)"
    example: ClassVar[str] = "get_object#2 shorten-range@request:4096"
    grounds: ClassVar[tuple[str, ...]] = ("H4", "H16")

    length: int

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if not value:
            raise ValueError("shorten-range needs a number of bytes")
        return cls(count(value, 0, "shorten-range"))

    @property
    def value(self) -> str:
        return str(self.length)

    def _edit(self, head: Head) -> Head | None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", (head.get("range") or "").strip())
        if not found:
            return None
        first, last = int(found[1]), int(found[1]) + self.length - 1
        if found[2] and int(found[2]) <= last:
            return None
        return head.with_field("Range", f"bytes={first}-{last}")

    def verbs(self) -> tuple[Verb, ...]:
        return (EditRequest(self._edit),)


MEMBER = ShortenRange
