"""An answer that is not the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from midstream._positions import Position
from midstream.faults._answers import Answer


@dataclass(frozen=True)
class Status(Answer):
    """Answer the request in the store's place: a status, and if wanted header fields and a body."""

    id: ClassVar[str] = "status"
    summary: ClassVar[str] = "answer with a status, header fields and a body of your choice"
    example: ClassVar[str] = "get_object#2 status@head:503,Retry-After=1,body=busy"
    grounds: ClassVar[tuple[str, ...]] = ("H1", "H6", "H7", "H8", "H9", "H10", "U1", "U4", "U5", "U6", "U9")

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or (position.kind, position.value, position.delta) != ("place", "head", 0):
            raise ValueError("status is written WHO[#ORDINAL] status@head:STATUS")


MEMBER = Status
