"""A 206 whose Content-Range does not describe its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Rewrite, Verb
from midstream._wire import Head, content_range
from midstream.faults import AtHead

FORMS = {
    "missing": "no Content-Range",
    "unknown": "bytes first-last/*",
    "malformed": "not in any form RFC 9110 section 14.4 has",
    "total": "the length of the range given as the object's size",
    "grown": "an object one byte longer",
    "first": "a range said to start one byte later",
    "last": "a range said to end one byte earlier",
    "unit": "a unit other than bytes",
}


@dataclass(frozen=True)
class WrongContentRange(AtHead):
    """Change Content-Range and nothing else; the body stays the one that was asked for."""

    id: ClassVar[str] = "content-range"
    summary: ClassVar[str] = "a missing, malformed or lying Content-Range over the right body"
    takes: ClassVar[str] = "|".join(FORMS)
    example: ClassVar[str] = "get_object#2 content-range@head:missing"
    grounds: ClassVar[tuple[str, ...]] = ("H5",)

    form: str

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in FORMS:
            raise ValueError(f"content-range takes one of {', '.join(FORMS)}, not {value!r}")
        return cls(value)

    @property
    def value(self) -> str:
        return self.form

    def _edit(self, context: Context) -> Head | None:
        found = content_range(context.head.get("content-range"))
        if context.head.status != 206 or found is None or found.first is None or found.last is None:
            return None
        if self.form == "missing":
            return context.head.without("Content-Range")
        first, last = found.first, found.last
        total = "*" if found.total is None else found.total
        if self.form == "grown" and found.total is None:
            return None  # no size is said that could be wrong
        text = {
            "unknown": f"bytes {first}-{last}/*",
            "malformed": f"bytes={first}-{last}",
            "total": f"bytes {first}-{last}/{last - first + 1}",
            "grown": f"bytes {first}-{last}/{(found.total or 0) + 1}",
            "first": f"bytes {first + 1}-{last}/{total}",
            "last": f"bytes {first}-{last - 1}/{total}",
            "unit": f"octets {first}-{last}/{total}",
        }[self.form]
        return context.head.with_field("Content-Range", text)

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit),)


MEMBER = WrongContentRange
