"""Faults: one thing going wrong, one file each.

A fault reads its value from the text after the colon of a fault line and says which verbs an injector has to
carry out. It never touches a socket and no engine ever asks which fault it has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar, Self

from midstream._positions import Position
from midstream._verbs import Verb


@dataclass(frozen=True)
class Fault:
    """Base of all faults; subclasses are frozen dataclasses whose fields are the fault's parameters."""

    id: ClassVar[str]
    summary: ClassVar[str]
    takes: ClassVar[str]  # the value, as shown in help: "fin|rst|half"
    example: ClassVar[str]  # a whole fault line
    grounds: ClassVar[tuple[str, ...]]  # ids of the fault taxonomy

    @classmethod
    def parse(cls, value: str | None) -> Self:
        """Read the text after the colon (None when there is none); raises ValueError."""
        raise NotImplementedError

    @property
    def value(self) -> str:
        """The text that `parse` reads back to this fault; "" for none."""
        raise NotImplementedError

    def verbs(self) -> tuple[Verb, ...]:
        """What an injector does when the position is reached, in order."""
        raise NotImplementedError

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        """Raise ValueError for a position the fault cannot fire at (here: a connection)."""
        if connection or _is_place(position, "accept"):
            raise ValueError(f"{cls.id} fires at a request or in its response, not at CONNECTION or accept")


class AtAccept(Fault):
    """A fault of the connection itself: CONNECTION ... @accept."""

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if not connection or (position.kind, position.value, position.delta) != ("place", "accept", 0):
            raise ValueError(f"{cls.id} is written CONNECTION[#ORDINAL] {cls.id}@accept")


def _is_place(position: Position, name: str) -> bool:
    return (position.kind, position.value, position.delta) == ("place", name, 0)


class AtRequest(Fault):
    """A fault of the request on its way to the store: ... @request."""

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or not _is_place(position, "request"):
            raise ValueError(f"{cls.id} is written WHO[#ORDINAL] {cls.id}@request")


class AtHead(Fault):
    """A fault of the response head: ... @head."""

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or not _is_place(position, "head"):
            raise ValueError(f"{cls.id} is written WHO[#ORDINAL] {cls.id}@head")


class InResponse(Fault):
    """A fault of the response's bytes: anywhere behind its first."""

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or position.kind not in ("object", "percent", "body"):
            raise ValueError(f"{cls.id} fires at a payload byte: an object offset, N% or body+N")


def seconds(text: str) -> float:
    """Read a duration: `1.5`, `1.5s`, `200ms`."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s)?", text)
    if not found:
        raise ValueError(f"{text!r} is no duration; use 1.5s or 200ms")
    return float(Decimal(found[1]) / (1000 if found[2] == "ms" else 1))


def seconds_text(value: float) -> str:
    """The shortest text that `seconds` reads back to exactly this value."""
    exact = Decimal(repr(value))  # the shortest decimal that is this float
    number, unit = (exact, "s") if value >= 1 or value == 0 else (exact * 1000, "ms")
    digits = f"{number:f}"
    return (digits.rstrip("0").rstrip(".") if "." in digits else digits) + unit
