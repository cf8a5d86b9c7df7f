"""A server that miscounts what it has of an upload."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import AtHead


@dataclass(frozen=True)
class Offset(AtHead):
    """Give another Upload-Offset than the store did, or none at all."""

    id: ClassVar[str] = "offset"
    summary: ClassVar[str] = "a lying or missing Upload-Offset in an answer about a resumable upload"
    takes: ClassVar[str] = "+n, -n, =n or none (required)"
    example: ClassVar[str] = "upload_offset#1 offset@head:+4096"
    grounds: ClassVar[tuple[str, ...]] = ("U5", "U6")

    how: str
    count: int = 0

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value == "none":
            return cls("none")
        found = re.fullmatch(r"([-+=])([0-9]{1,15})", value or "")
        if not found:
            raise ValueError(f"{value!r} is no offset; use +n, -n, =n or none")
        return cls(found[1], int(found[2]))

    @property
    def value(self) -> str:
        return "none" if self.how == "none" else f"{self.how}{self.count}"

    def _edit(self, context: Context) -> Head | None:
        told = context.head.get("upload-offset")
        if told is None or not told.isdigit():
            return None
        if self.how == "none":
            return context.head.without("upload-offset")
        offset = self.count if self.how == "=" else max(0, int(told) + int(f"{self.how}{self.count}"))
        return context.head.with_field("Upload-Offset", str(offset))

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit),)


MEMBER = Offset
