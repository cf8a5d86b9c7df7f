"""An answer that comes while the request is still being sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midstream._positions import Position
from midstream.faults._answers import Answer


@dataclass(frozen=True)
class EarlyAnswer(Answer):
    """Answer in the store's place once exactly so many bytes of the body have reached the store.

    The store's side of the connection ends there, so that it is left with a body that is not whole.
    """

    id: ClassVar[str] = "early-answer"
    summary: ClassVar[str] = "answer in the store's place in the middle of the request's body"
    example: ClassVar[str] = "send_object#1 early-answer@sent+50%:503,Retry-After=0"
    grounds: ClassVar[tuple[str, ...]] = ("U1", "U5", "H8")

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or not position.in_request:
            raise ValueError("early-answer is written WHO[#ORDINAL] early-answer@sent+N:STATUS")


MEMBER = EarlyAnswer
