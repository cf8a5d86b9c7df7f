"""The answer is elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Respond, Verb
from midstream.faults import AtHead

STATUSES = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class Redirect(AtHead):
    """Redirect the request to the same path under another host name; the store is behind that one too.

    The other host is `localhost` where the driver was given 127.0.0.1: another origin for everything that
    decides whether credentials may follow (RFC 9110 section 15.4).
    """

    id: ClassVar[str] = "redirect"
    summary: ClassVar[str] = "redirect a request to another host name"
    takes: ClassVar[str] = "301|302|303|307|308 (default 302)"
    example: ClassVar[str] = "get_object#2 redirect@head:307"
    grounds: ClassVar[tuple[str, ...]] = ("H9",)

    status: int = 302

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value is not None and value not in map(str, STATUSES):
            raise ValueError(f"redirect takes {', '.join(map(str, STATUSES))}, not {value!r}")
        return cls(int(value or 302))

    @property
    def value(self) -> str:
        return str(self.status)

    def verbs(self) -> tuple[Verb, ...]:
        return (Respond(self.status, (("Location", "{other-host}"),)),)


MEMBER = Redirect
