"""Answers in the store's place, as text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import quote, unquote_to_bytes

from midstream._verbs import Respond, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Answer(Fault):
    """A status, and if wanted header fields and a body.

    The value is the status, then `,Name=value` for each field and `,body=text`, percent-encoded where a
    comma, a percent sign or a byte outside printable ASCII is meant.
    """

    takes: ClassVar[str] = "STATUS[,Name=value]...[,body=text]"

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None

    @classmethod
    def parse(cls, value: str | None) -> Self:
        code, *rest = (value or "").split(",")
        if not re.fullmatch(r"[2-5][0-9][0-9]", code):
            raise ValueError(f"{code!r} is no final status; use 200 to 599, as in {cls.id}@...:503")
        headers, body = [], None
        for item in rest:
            name, equals, text = item.partition("=")
            if not equals or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
                raise ValueError(f"{item!r} is no header field; use Name=value")
            if name == "body":
                body = unquote_to_bytes(text)
            else:
                decoded = unquote_to_bytes(text).decode("latin-1")
                if re.search(r"[\r\n\0]", decoded):
                    raise ValueError(f"{item!r} would not stay one header field: no line breaks, no NUL")
                headers.append((name, decoded))
        return cls(int(code), tuple(headers), body)

    @property
    def value(self) -> str:
        fields = [f",{n}={_quote(v.encode('latin-1'))}" for n, v in self.headers]
        body = "" if self.body is None else f",body={_quote(self.body)}"
        return f"{self.status}{''.join(fields)}{body}"

    def verbs(self) -> tuple[Verb, ...]:
        body = self.body
        if body is None:
            default = f"<html><body><h1>{self.status}</h1></body></html>\n".encode()
            body = b"" if self.status in (204, 304) else default
        return (Respond(self.status, self.headers, body),)


def _quote(text: bytes) -> str:
    quoted = quote(text, safe=" /:;*\"'()<>?@[]{}=&-_.~!$+")
    # A fault line is read without the blanks around it, so one at the end has to be written out.
    return f"{quoted[:-1]}%20" if quoted.endswith(" ") else quoted
