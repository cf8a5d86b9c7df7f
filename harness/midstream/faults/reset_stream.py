"""An HTTP/2 stream that is reset while its connection goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import ResetStream, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class ResetHttp2Stream(Fault):
    """RST_STREAM with an error code at the position; code 0 (NO_ERROR) is the one taken for success.

    Only an injector that speaks HTTP/2 to the driver can carry it out.
    """

    id: ClassVar[str] = "reset-stream"
    summary: ClassVar[str] = "reset the HTTP/2 stream at a byte, with an error code"
    takes: ClassVar[str] = "the error code, 0 to 13 (default 0)"
    example: ClassVar[str] = "get_object#1 reset-stream@50%:0"
    grounds: ClassVar[tuple[str, ...]] = ("T8",)

    code: int = 0

    @classmethod
    def parse(cls, value: str | None) -> Self:
        # RFC 9113 section 7 names 0 (NO_ERROR) to 13 (HTTP_1_1_REQUIRED).
        if value is not None and value not in map(str, range(14)):
            raise ValueError(f"reset-stream takes an error code from 0 to 13, not {value!r}")
        return cls(int(value or 0))

    @property
    def value(self) -> str:
        return str(self.code)

    def verbs(self) -> tuple[Verb, ...]:
        return (ResetStream(self.code),)


MEMBER = ResetHttp2Stream
