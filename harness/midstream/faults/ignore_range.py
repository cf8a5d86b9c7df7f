"""The store ignores Range and sends the whole object (RFC 9110 section 14.2 allows it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import EditRequest, Verb
from midstream._wire import Head
from midstream.faults import AtRequest


def _no_range(head: Head) -> Head | None:
    return head.without("Range", "If-Range") if head.has("Range") else None


@dataclass(frozen=True)
class IgnoreRange(AtRequest):
    """Take Range and If-Range out of the request, so that the store answers 200 with everything."""

    id: ClassVar[str] = "ignore-range"
    summary: ClassVar[str] = "have a ranged request answered by 200 with the whole object"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#2 ignore-range@request"
    grounds: ClassVar[tuple[str, ...]] = ("H1", "H16")

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("ignore-range takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def verbs(self) -> tuple[Verb, ...]:
        return (EditRequest(_no_range),)


MEMBER = IgnoreRange
