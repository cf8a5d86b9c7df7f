"""Another replica answers, with other content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import EditRequest, Verb
from midstream._wire import Head
from midstream.faults import AtRequest

TWIN = ".replica"


def twin_target(target: str) -> str:
    """The target of the object's twin: the same key with a suffix, before any query."""
    path, question, query = target.partition("?")
    return f"{path}{TWIN}{question}{query}"


def _divert(head: Head) -> Head | None:
    method, target = head.request
    version = head.line.rsplit(" ", 1)[-1]
    return head.with_line(f"{method} {twin_target(target)} {version}") if target else None


@dataclass(frozen=True)
class Replica(AtRequest):
    """Send the request to a replica that holds the next generation of the object under its own ETag."""

    id: ClassVar[str] = "replica"
    summary: ClassVar[str] = "have a request answered by a replica with other content"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#2 replica@request"
    grounds: ClassVar[tuple[str, ...]] = ("S4",)

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("replica takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def verbs(self) -> tuple[Verb, ...]:
        return (EditRequest(_divert, twin=True),)


MEMBER = Replica
