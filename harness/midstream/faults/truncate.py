"""A truncated body that ends as if it were whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import InResponse
from midstream.faults._payload import Cutoff, same_head


@dataclass(frozen=True)
class Truncate(InResponse):
    """End the body cleanly at the position, as an intermediary does that lost its upstream.

    `chunked` sends it with proper chunked framing, `length` with a Content-Length that fits the short body.
    """

    id: ClassVar[str] = "truncate"
    summary: ClassVar[str] = "end a truncated body cleanly, chunked or with a fitting Content-Length"
    takes: ClassVar[str] = "chunked|length (default chunked)"
    example: ClassVar[str] = "get_object#1 truncate@50%:chunked"
    grounds: ClassVar[tuple[str, ...]] = ("H16", "T6")

    framing: str = "chunked"

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "chunked", "length"):
            raise ValueError(f"truncate takes chunked or length, not {value!r}")
        return cls(value or "chunked")

    @property
    def value(self) -> str:
        return self.framing

    def _edit(self, context: Context) -> Head | None:
        if same_head(context) is None:
            return None
        if self.framing == "chunked":
            return context.head.without("Content-Length").with_field("Transfer-Encoding", "chunked")
        return context.head.without("Transfer-Encoding").with_field("Content-Length", str(context.at))

    def _payload(self, context: Context) -> Payload:
        return Cutoff(context.at or 0)

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload),)


MEMBER = Truncate
