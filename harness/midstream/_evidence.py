"""What happened in one case, as it happened.

An injector appends events and never changes one; everything else is computed from them. Credentials are
redacted when an event is recorded, so that they are in no file at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from midstream._operations import SENDS

_SECRET_FIELDS = re.compile(
    r"authorization|proxy-authorization|cookie|set-cookie|x-auth-(?:token|key|user)|x-storage-(?:token|pass)"
    r"|x-(?:subject|service)-token|x-amz-security-token|x-(?:account|container)-meta-temp-url-key(?:-2)?"
    r"|x-amz-(?:copy-source-)?server-side-encryption-customer-key",
    re.IGNORECASE,
)
_SECRET_QUERY = re.compile(
    r"(?i)([?&](?:x-(?:amz|goog)-(?:signature|credential|security-token)|signature|awsaccesskeyid"
    r"|temp_url_sig|(?:access_)?token|key|password|sig)=)[^&#\s>\"]*"
)
REDACTED = "[redacted]"


def redact_target(target: str) -> str:
    """A request target with the values of signing and token parameters taken out."""
    return _SECRET_QUERY.sub(rf"\1{REDACTED}", target)


def redact_fields(fields: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Header fields with credentials taken out, also those in URLs (Location, Link, Referer, ...)."""
    return [(n, REDACTED if _SECRET_FIELDS.fullmatch(n) else redact_target(v)) for n, v in fields]


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is connection, request, received, response, fault, sent, unfired, window, client-left,
    upstream-failed, look or note.

    `at` counts seconds from the start of the case; `connection` and `exchange` count from 1 (0: none).
    """

    kind: str
    at: float
    connection: int
    exchange: int
    data: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "at": round(self.at, 6),
            "connection": self.connection,
            "exchange": self.exchange,
            **self.data,
        }


@dataclass
class Evidence:
    """The append-only record of one case."""

    events: list[Event] = field(default_factory=list)
    limit: int = 20_000  # a driver in a retry storm must not fill the memory; what is left out is counted
    dropped: int = 0

    def add(self, kind: str, at: float, connection: int = 0, exchange: int = 0, **data: Any) -> None:
        if len(self.events) < self.limit:
            self.events.append(Event(kind, at, connection, exchange, data))
        else:
            self.dropped += 1

    def as_json(self) -> list[dict[str, Any]]:
        return [event.as_json() for event in self.events]


@dataclass
class Exchange:
    """One request and what came of it, folded from its events.

    `base` is the object offset of the first payload byte (None: no object bytes), `sent` the payload bytes
    handed to the client's kernel, `wire` all bytes of the response with its interim ones, `end` why it ended:
    complete, cut, client-left, upstream-closed, held, open.
    """

    connection: int
    number: int
    method: str
    target: str
    operation: str
    fields: list[tuple[str, str]]
    status: int = 0
    base: int | None = None
    length: int | None = None
    sent: int = 0
    wire: int = 0
    end: str = "open"
    answered_by: str = "store"
    retry_after: str | None = None
    started_at: float = 0.0  # seconds from the start of the case
    ended_at: float | None = None
    held: bool = False  # ended while a fault held it: `sent` is what lies before the fault, no more, no less
    received: int = 0  # bytes of the request's body that reached the store
    declared: int | None = None  # how many the request said it has
    whole: bool = True  # the request came to its end
    document: str = ""  # the body of a request that lists parts or segments
    answer: Mapping[str, str] = field(default_factory=dict)  # the response's fields, names in lower case

    @property
    def range(self) -> str | None:
        return self.field("range")

    def field(self, name: str) -> str | None:
        """The first value of a request field; `name` in any case."""
        return self._by_name.get(name.lower())

    @cached_property
    def _by_name(self) -> dict[str, str]:
        return {n.lower(): v for n, v in reversed(self.fields)}


@dataclass(frozen=True)
class Fired:
    """A fault that fired: which rule, where, with how many payload bytes of the response delivered."""

    rule: int
    spec: str
    exchange: int
    wire: int
    body: int
    offset: int | None


@dataclass(frozen=True)
class Facts:
    """Evidence, folded: what checks and verdicts read."""

    exchanges: Sequence[Exchange]
    fired: Sequence[Fired]
    unfired: Mapping[int, Sequence[str]]  # per rule that was in force and never fired: why, per request
    trouble: Sequence[str]  # what went wrong on our side of the wire
    connections: int
    dropped: int = 0  # events that were not kept, there being too many

    @property
    def sendings(self) -> list[Exchange]:
        """Exchanges that carried object bytes to the store, or tried to."""
        return [
            e
            for e in self.exchanges
            if e.operation in SENDS or (e.operation == "create_upload" and e.declared)
        ]

    @property
    def transfers(self) -> list[Exchange]:
        """Exchanges that asked for object bytes."""
        return [e for e in self.exchanges if e.operation == "get_object"]

    def body_bytes(self, size: int) -> int:
        """Object bytes the driver was answered with, of an object of `size`: up to the fault, or all.

        A driver that leaves early is charged the whole response: how much of it had been sent by then is a
        race between its leaving and our sending, and says nothing.
        """
        total = 0
        for e in self.transfers:
            if e.base is not None:
                whole = max(size - e.base, 0) if e.length is None else e.length
                left = e.end in ("client-left", "open") and not e.held
                total += whole if left else e.sent
        return total

    @property
    def covered_bytes(self) -> int:
        """Different object bytes sent, however often each."""
        spans = sorted((e.base, e.base + e.sent) for e in self.transfers if e.base is not None)
        covered = reached = 0
        for start, end in spans:
            covered += max(0, end - max(start, reached))
            reached = max(reached, end)
        return covered


def fold(evidence: Evidence) -> Facts:
    """Compute the facts of a case; pure."""
    exchanges: dict[int, Exchange] = {}
    unfired: dict[int, list[str]] = {}
    fired: list[Fired] = []
    trouble: list[str] = []
    connections = 0
    for e in evidence.events:
        d = e.data
        if e.kind == "connection":
            connections += 1
        elif e.kind == "request":
            exchanges[e.exchange] = Exchange(
                e.connection, e.exchange, d["method"], d["target"], d["operation"], d["fields"]
            )
            exchanges[e.exchange].started_at = e.at
        elif e.kind == "response" and (x := exchanges.get(e.exchange)):
            x.status, x.base, x.length = d["status"], d["base"], d["length"]
            x.answered_by = d["by"]
            x.answer = {n.lower(): v for n, v in d["fields"]}
            x.retry_after = x.answer.get("retry-after")
        elif e.kind == "received" and (x := exchanges.get(e.exchange)):
            x.received, x.declared, x.whole = d["body"], d["length"], d["whole"]
            x.document = d.get("document", "")
        elif e.kind == "sent" and (x := exchanges.get(e.exchange)):
            x.sent, x.wire, x.end = d["body"], d["wire"], d["end"]
            x.ended_at, x.held = e.at, bool(d.get("held"))
            if x.end == "upstream-closed":
                trouble.append(f"the store ended the response to request {x.number} early")
        elif e.kind == "fault":
            fired.append(Fired(d["rule"], d["spec"], e.exchange, d["wire"], d["body"], d["offset"]))
        elif e.kind == "unfired":
            unfired.setdefault(d["rule"], []).append(d["why"])
        elif e.kind == "upstream-failed":
            trouble.append(d["reason"])
    for one in fired:
        unfired.pop(one.rule, None)
    return Facts(list(exchanges.values()), fired, unfired, trouble, connections, evidence.dropped)


def refetched(facts: Facts, size: int) -> int:
    """Payload bytes sent more than once, over all responses that carried object bytes."""
    spans = sorted(
        (min(e.base, size), min(e.base + e.sent, size))
        for e in facts.transfers
        if e.base is not None and e.sent
    )
    covered = reached = 0
    for start, end in spans:
        covered += max(0, end - max(start, reached))
        reached = max(reached, end)
    return sum(end - start for start, end in spans) - covered
