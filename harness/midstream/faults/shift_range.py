"""The store answers with a range that starts somewhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import EditRequest, Verb
from midstream._wire import Head
from midstream.faults import AtRequest


@dataclass(frozen=True)
class ShiftRange(AtRequest):
    """Move the first byte of the requested range; the store answers the moved range honestly.

    `-n` starts earlier (an aligned cache: a superset), `+n` later (a gap), `=n` at an absolute offset.
    """

    id: ClassVar[str] = "shift-range"
    summary: ClassVar[str] = "have a ranged request answered by a 206 that starts elsewhere"
    takes: ClassVar[str] = "-n, +n or =n (required)"
    example: ClassVar[str] = "get_object#2 shift-range@request:=0"
    grounds: ClassVar[tuple[str, ...]] = ("H3",)

    how: str
    by: int

    @classmethod
    def parse(cls, value: str | None) -> Self:
        found = re.fullmatch(r"([-+=])(\d+)", value or "")
        if not found or (found[1] != "=" and not int(found[2])):
            raise ValueError("shift-range needs where to start, as in -512, +512 or =0")
        return cls(found[1], int(found[2]))

    @property
    def value(self) -> str:
        return f"{self.how}{self.by}"

    def _edit(self, head: Head) -> Head | None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", (head.get("range") or "").strip())
        if not found:
            return None
        first = int(found[1])
        moved = {"-": max(0, first - self.by), "+": first + self.by, "=": self.by}[self.how]
        if moved == first:
            return None
        return head.with_field("Range", f"bytes={moved}-{found[2]}")

    def verbs(self) -> tuple[Verb, ...]:
        return (EditRequest(self._edit),)


MEMBER = ShiftRange
