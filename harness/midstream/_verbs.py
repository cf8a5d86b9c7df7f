"""What faults ask of an injector: a few verbs, carried out in order.

A fault is made of verbs and an injector declares the verbs it carries, so neither has to know the other:
N faults and M injectors stay N + M pieces of code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from midstream._wire import Head


class Ending(StrEnum):
    """How a connection ends."""

    FIN = "fin"  # an orderly end of both directions, as a server process that exits
    RST = "rst"  # a reset, sent once the peer's kernel holds every byte before it
    HALF = "half"  # the end of the response direction only; the socket stays open for reading
    NOTIFY = "notify"  # TLS only: close_notify, then FIN; the others end TLS without close_notify


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


@dataclass(frozen=True)
class Send:
    """Put these bytes on the wire here, outside any message (an interim response, say)."""

    data: bytes


@dataclass(frozen=True)
class EditRequest:
    """Change the request before the store sees it; `edit` gives None where there is nothing to change.

    `twin` says that the store has to hold a twin of the object, the next generation under `KEY.replica`.
    """

    edit: Callable[[Head], Head | None]
    twin: bool = False


@dataclass(frozen=True)
class Context:
    """A response about to be rewritten.

    `base` is the object offset of the first payload byte (None: no object bytes), `length` the declared
    payload length, `total` the object's size, each None where unknown. `at` is the payload offset of the
    fault's position, None when it lies outside this response or in no payload.
    """

    head: Head
    base: int | None
    length: int | None
    total: int | None
    at: int | None = None


class Payload(Protocol):
    """Changes a payload as it streams by. Pure: bytes in, bytes out.

    `touched` turns true with the first byte that differs; `over` ends the body early, cleanly.
    """

    touched: bool
    over: bool

    def feed(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


@dataclass(frozen=True)
class Rewrite:
    """Change a response on its way: its head, and if `payload` is given the bytes of its body.

    `head` gives the new head, or None when this response is none to change; `Content-Length` in it must fit
    the new body. `coded` says that the new payload is not the object's bytes in their order any more, so no
    object offset can be told in it.
    """

    head: Callable[[Context], Head | None]
    payload: Callable[[Context], Payload] | None = None
    coded: bool = False


BACKENDS = "backends "


@dataclass(frozen=True)
class Mutate:
    """Change the object in the store, out of band, while the response waits at the position.

    `action` is same, shorter, longer (replaced by another generation of that size), append, delete,
    lose-segment, change-segment, expire (the credentials that were given out), or `backends N` (only N of
    the servers behind the store run from here on; `all` starts them again).
    """

    action: str

    @property
    def backends(self) -> str:
        """The N of `backends N`; empty for any other change."""
        return self.action.removeprefix(BACKENDS) if self.action.startswith(BACKENDS) else ""


@dataclass(frozen=True)
class Kill:
    """Send the driver's process a signal, at exactly this byte."""

    signal: str


@dataclass(frozen=True)
class Swallow:
    """Take in the store's whole answer and pass none of it on."""


@dataclass(frozen=True)
class Alter:
    """Change the file that the driver uploads, while the request waits at the position.

    `action` is truncate (to half), delete (the name), replace (by another generation, in place), grow.
    """

    action: str


@dataclass(frozen=True)
class Look:
    """Look at the object in the store, out of band: the store has just been asked to publish one."""


@dataclass(frozen=True)
class ResetStream:
    """Reset the HTTP/2 stream of the response with this error code (RFC 9113 section 6.4)."""

    code: int


Verb = (
    Close
    | Hold
    | Pace
    | Respond
    | Refuse
    | Send
    | EditRequest
    | Rewrite
    | Mutate
    | Kill
    | ResetStream
    | Swallow
    | Alter
)
# What is done off the wire, while the bytes wait; a `Look` is no fault's, the relay asks for it itself.
Act = Mutate | Kill | Alter | Look
IN_REQUEST = (Close, Hold, Mutate, Kill, Alter, Respond)  # what can be done inside a request's body
