"""A slow sender."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Pace, Verb
from midstream.faults import Fault

_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2}


@dataclass(frozen=True)
class Throttle(Fault):
    """Send at most so many bytes per second from the position on."""

    id: ClassVar[str] = "throttle"
    summary: ClassVar[str] = "send slowly from the byte on"
    takes: ClassVar[str] = "bytes per second, with KiB or MiB (required)"
    example: ClassVar[str] = "get_object#1 throttle@head:64KiB"
    grounds: ClassVar[tuple[str, ...]] = ("T4",)

    rate: int

    @classmethod
    def parse(cls, value: str | None) -> Self:
        found = re.fullmatch(r"([0-9]{1,15})(KiB|MiB)?", value or "")
        if not found or not int(found[1]):
            raise ValueError("a throttle needs its rate in bytes per second, as in throttle@head:64KiB")
        return cls(int(found[1]) * _UNITS[found[2] or ""])

    @property
    def value(self) -> str:
        for unit, factor in reversed(_UNITS.items()):
            if self.rate % factor == 0:
                return f"{self.rate // factor}{unit}"
        raise AssertionError("every rate is a multiple of 1")

    def verbs(self) -> tuple[Verb, ...]:
        return (Pace(self.rate),)


MEMBER = Throttle
