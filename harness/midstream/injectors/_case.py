"""What the connections of one case share: schedule, evidence, and the answers that are no store's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from midstream._evidence import Evidence
from midstream._schedule import Schedule
from midstream._verbs import Act, Respond
from midstream._wire import Head
from midstream.injectors import Operation
from midstream.injectors._tls import TlsSocket

DYING = 2.0  # seconds for a signalled driver to leave; one that stays is served on
REASONS = {200: "OK", 206: "Partial Content", 404: "Not Found", 412: "Precondition Failed"}

Client = socket.socket | TlsSocket


class Ended(Exception):
    """The connection is over; `args[0]` says how, in the words of `Exchange.end`."""


@dataclass
class Case:
    """What the connections of one session share."""

    upstream: tuple[str, int]
    schedule: Schedule
    operation: Operation
    object_size: int | None
    evidence: Evidence
    now: Callable[[], float]
    act: Callable[[Act], None] | None = None
    path: str = ""  # of the store's socket, where it is not at `upstream`
    looks: bool = False  # whether `act` wants to look at what the store is asked to publish
    exchanges: int = 0
    mutated: bool = False  # a fault changed the store: how it ends from here on is no trouble of ours
    record: Callable[..., None] = field(init=False)

    def __post_init__(self) -> None:
        self.record = self.evidence.add


def canned(answer: Respond, *, close: bool, elsewhere: str = "") -> bytes:
    """The bytes of a response made here; `{other-host}` in a field is the target under another host name."""
    lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Injected')}"]
    lines += [f"{n}: {v.replace('{other-host}', elsewhere)}" for n, v in answer.headers]
    names = {n.lower() for n, _ in answer.headers}
    if not names & {"content-length", "transfer-encoding"} and answer.status not in (204, 304):
        lines.append(f"Content-Length: {len(answer.body)}")
    if "content-type" not in names and answer.body:
        lines.append("Content-Type: text/html")
    if close and "connection" not in names:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body


def wants_close(head: Head) -> bool:
    """Whether a request asks for the connection to end after the response (RFC 9112 section 9.3)."""
    options = {o.strip() for o in (head.get("connection") or "").lower().split(",")}
    return "close" in options or (head.line.endswith("HTTP/1.0") and "keep-alive" not in options)
