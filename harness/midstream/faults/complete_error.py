"""A completion that begins like a success and ends in an error."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Respond, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import AtHead


def document(code: str) -> bytes:
    """The error document of S3 (API: Error Responses)."""
    text = f"<Error><Code>{code}</Code><Message>We encountered an error. Please try again.</Message></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


class _Instead:
    """A payload that is another one, whatever the store's was."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.touched = True
        self.over = False

    def feed(self, data: bytes) -> bytes:
        return b""

    def end(self) -> bytes:
        return self._data


@dataclass(frozen=True)
class CompleteError(AtHead):
    """Answer 200 with an `<Error>` document, as S3 may once it has begun to answer.

    With `,stored` the store has made the object all the same; without, it never saw the request.
    """

    id: ClassVar[str] = "complete-error"
    summary: ClassVar[str] = "answer the request to complete an upload by 200 with an <Error> document"
    takes: ClassVar[str] = "CODE (default InternalError), with ,stored where the object is made all the same"
    example: ClassVar[str] = "complete_upload#1 complete-error@head:InternalError"
    grounds: ClassVar[tuple[str, ...]] = ("S7",)

    code: str = "InternalError"
    stored: bool = False

    @classmethod
    def parse(cls, value: str | None) -> Self:
        found = re.fullmatch(r"([A-Za-z]{1,60})(,stored)?", value or "InternalError")
        if not found:
            raise ValueError(f"{value!r} is no error code; use CODE or CODE,stored")
        return cls(found[1], bool(found[2]))

    @property
    def value(self) -> str:
        return f"{self.code},stored" if self.stored else self.code

    def _head(self, context: Context) -> Head | None:
        if context.head.status != 200:
            return None
        length = str(len(document(self.code)))
        return context.head.without("content-length", "transfer-encoding").with_field(
            "Content-Length", length
        )

    def _payload(self, context: Context) -> Payload:
        return _Instead(document(self.code))

    def verbs(self) -> tuple[Verb, ...]:
        if self.stored:
            return (Rewrite(self._head, self._payload, coded=True),)
        return (Respond(200, (("Content-Type", "application/xml"),), document(self.code)),)


MEMBER = CompleteError
