"""What faults ask of an injector: a few verbs, carried out in order.

A fault is made of verbs and an injector declares the verbs it carries, so neither has to know the other:
N faults and M injectors stay N + M pieces of code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How a connection ends."""

    FIN = "fin"  # an orderly end of both directions, as a server process that exits
    RST = "rst"  # a reset, sent once the peer's kernel holds every byte before it
    HALF = "half"  # the end of the response direction only; the socket stays open for reading


@dataclass(frozen=True)
class Close:
    """End the client's connection here; bytes before the position are delivered, none after it."""

    ending: Ending


@dataclass(frozen=True)
class Hold:
    """Send nothing for `seconds`, or for ever (None), with the connection open."""

    seconds: float | None


@dataclass(frozen=True)
class Pace:
    """From here on, send at most `rate` bytes per second of the response."""

    rate: int


@dataclass(frozen=True)
class Respond:
    """Answer the request with this response; the store never sees the request."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Refuse:
    """Refuse new connections for `seconds`, or for ever (None)."""

    seconds: float | None


Verb = Close | Hold | Pace | Respond | Refuse
