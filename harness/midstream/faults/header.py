"""A response field that is missing, wrong or added."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import quote, unquote

from midstream._verbs import Context, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import AtHead

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SAFE = " /:;*\"'()<>?@[]{}=&-_.~!$+"


@dataclass(frozen=True)
class Header(AtHead):
    """Set fields (`Name=value`) and take fields out (`Name`), in the order given.

    The status line is the field `:status`. A comma in a value is written %2C.
    """

    id: ClassVar[str] = "header"
    summary: ClassVar[str] = "set or remove response fields, or change the status"
    takes: ClassVar[str] = "Name=value or Name, separated by commas (required)"
    example: ClassVar[str] = 'get_object#2 header@head:ETag=W/"x",Last-Modified'
    grounds: ClassVar[tuple[str, ...]] = ("H2", "H5", "H12", "H14", "S5")

    edits: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, value: str | None) -> Self:
        edits: list[tuple[str, str | None]] = []
        for item in (value or "").split(","):
            name, equals, text = item.partition("=")
            if name != ":status" and not _NAME.fullmatch(name):
                raise ValueError(f"{item!r} names no field; use Name=value or Name")
            if name == ":status" and not re.fullmatch(r"[2-5]\d\d", text):
                raise ValueError(f"{item!r}: a status has three digits, 200 to 599")
            decoded = unquote(text, "latin-1")
            if re.search(r"[\r\n\0]", decoded):
                raise ValueError(f"{item!r} would not stay one header field: no line breaks, no NUL")
            edits.append((name, decoded if equals else None))
        return cls(tuple(edits))

    @property
    def value(self) -> str:
        text = ",".join(
            n if v is None else f"{n}={quote(v, safe=_SAFE, encoding='latin-1')}" for n, v in self.edits
        )
        # A fault line is read without the blanks around it, so one at the end has to be written out.
        return f"{text[:-1]}%20" if text.endswith(" ") else text

    def _edit(self, context: Context) -> Head | None:
        head = context.head
        for name, value in self.edits:
            if name == ":status":
                head = head.with_line(re.sub(r" \d{3}( .*)?$", f" {value} Rewritten", head.line))
            elif value is None:
                head = head.without(name)
            else:
                head = head.with_field(name, value)
        return head

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit),)


MEMBER = Header
