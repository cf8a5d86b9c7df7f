"""Rules: which fault fires at which request and byte.

One rule is one line, `WHO[/PATH][#ORDINAL] FAULT@POSITION[:VALUE]`, and reads back to the same rule:

    GET#1 cut@1048576:rst             the first GET, before object byte 1,048,576
    get_object cut@1048576            whichever response carries that byte, once; then healed
    GET#2-4 status@head:503           the second to the fourth GET
    GET/bucket/*#* stall@body+10      every GET below /bucket/
    CONNECTION#2 hangup@accept:rst    the second connection

    TCP#2 cut@wire+70000:rst          the second connection to a store that does not speak HTTP
    TCP cut@sent+70000:rst            whichever such connection carries that byte to the store

WHO is an HTTP method in capitals, a store operation or a group of them in lower case (`get_object`,
`send_object`, ...), `*` for any request, or CONNECTION. A connection of another protocol than HTTP is one
request with the method TCP. The ordinal counts matching requests from 1: `#n`, `#n-m`, `#n+` (from n on),
`#*` (each). Without one the rule fires once, at the first request it can fire at.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from midstream._errors import UsageError
from midstream._operations import GROUPS, METHODS, OPERATIONS
from midstream._positions import BadPosition, Position
from midstream._registry import load
from midstream._verbs import (
    IN_REQUEST,
    Alter,
    Close,
    EditRequest,
    Ending,
    Hold,
    Kill,
    Mutate,
    Pace,
    Refuse,
    Respond,
    Rewrite,
    Verb,
)

CONNECTION = "CONNECTION"
TCP = "TCP"  # the method of a connection that is not read as HTTP
BYTES = "wire+N, on their way to the store sent+N"
RAW = (Alter, Close, Hold, Kill, Mutate, Pace, Refuse)  # the verbs that need not know what the bytes are
_LINE = re.compile(
    r"(?P<who>[A-Z]+(?:-[A-Z]+)*|[a-z_]+|\*)(?P<path>/[^#\s]*)?"
    r"(?:#(?P<ordinal>\d+(?:-\d+|\+)?|\*))?\s+(?P<fault>[a-z][a-z0-9-]*)@(?P<position>[^:\s]+)"
    r"(?::(?P<value>.*))?"
)


class FaultLike(Protocol):
    """What a rule needs of a fault (see `midstream.faults.Fault`)."""

    @property
    def id(self) -> str: ...
    @property
    def value(self) -> str: ...
    def verbs(self) -> tuple[Verb, ...]: ...


class BadSpec(UsageError):
    """A fault line that does not read; the message repeats the line and says what is wrong with it."""


def _unknown(who: str) -> str:
    """Why a rule for such requests can only be a slip; "" when it can be meant."""
    if who.isupper():
        what, known = "HTTP method", (*METHODS, TCP, CONNECTION)
    else:
        what, known = "operation", (*OPERATIONS, "*")
    if who in known:
        return ""
    near = difflib.get_close_matches(who, known, 3)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no {what} {who!r}{meant} (known: {', '.join(known)})"


@dataclass(frozen=True)
class Ordinals:
    """Matching requests number `first` to `last` (None: no end); `once` stops after the first firing."""

    first: int = 1
    last: int | None = None
    once: bool = True

    @classmethod
    def parse(cls, text: str | None) -> Ordinals:
        if text is None:
            return cls()
        if text == "*":
            return cls(once=False)
        if text.endswith("+"):
            first, last = int(text[:-1]), None
        else:
            low, _, high = text.partition("-")
            first, last = int(low), int(high or low)
        if first < 1:
            raise ValueError(f"#{text} counts no request; ordinals start at 1")
        if last is not None and last < first:
            raise ValueError(f"#{text} counts no request; the first ordinal comes first")
        return cls(first, last, once=False)

    def __str__(self) -> str:
        if self.once:
            return ""
        if self.last is None:
            return "#*" if self.first == 1 else f"#{self.first}+"
        return f"#{self.first}" if self.first == self.last else f"#{self.first}-{self.last}"

    def __contains__(self, number: int) -> bool:
        return self.first <= number and (self.last is None or number <= self.last)


@dataclass(frozen=True)
class Rule:
    """One fault with its request matcher and position."""

    who: str
    path: str
    ordinals: Ordinals
    fault: FaultLike
    position: Position

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read one line; raises BadSpec."""
        found = _LINE.fullmatch(text.strip())
        if not found:
            raise BadSpec(f"fault {text!r}: not of the form WHO[/PATH][#ORDINAL] FAULT@POSITION[:VALUE]")
        who = found["who"]
        if wrong := _unknown(who):
            raise BadSpec(f"fault {text!r}: {wrong}")
        try:
            kind = load("faults", found["fault"])
            position = Position.parse(found["position"])
            kind.check_position(position, connection=who == CONNECTION)
            ordinals = Ordinals.parse(found["ordinal"])
            fault = kind.parse(found["value"])
            if position.in_request and not all(isinstance(v, IN_REQUEST) for v in fault.verbs()):
                raise ValueError(f"{fault.id} cannot fire inside a request's body")
            return cls(who, found["path"] or "", ordinals, fault, position)
        except (BadPosition, ValueError, UsageError) as error:
            raise BadSpec(f"fault {text!r}: {error}") from None

    def __str__(self) -> str:
        value = f":{self.fault.value}" if self.fault.value else ""
        return f"{self.who}{self.path}{self.ordinals} {self.fault.id}@{self.position}{value}"

    def matches(self, method: str, path: str, operation: str) -> bool:
        if self.who == CONNECTION:
            return False
        if self.who not in ("*", method, operation) and operation not in GROUPS.get(self.who, ()):
            return False
        return not self.path or fnmatchcase(path, self.path)

    @property
    def at_request(self) -> bool:
        """Whether the rule fires before the store sees the request."""
        return self.position.kind == "place" and self.position.value == "request"

    @property
    def in_request(self) -> bool:
        """Whether the rule fires at a byte of the request's body."""
        return self.position.in_request

    @property
    def rewrites(self) -> list[Rewrite]:
        return [v for v in self.fault.verbs() if isinstance(v, Rewrite)]

    @property
    def edits(self) -> list[EditRequest]:
        return [v for v in self.fault.verbs() if isinstance(v, EditRequest)]

    @property
    def answers(self) -> Respond | None:
        """The response that replaces the store's, when the fault is one."""
        return next((v for v in self.fault.verbs() if isinstance(v, Respond)), None)


@dataclass
class Armed:
    """A rule in force for one request or connection, until it has fired."""

    index: int
    rule: Rule
    wire: int | None = None  # byte of the message it fires at, once located
    fired: bool = False


@dataclass
class Counter:
    matched: int = 0
    fired: int = 0


@dataclass
class Schedule:
    """The rules of one case and how often each has matched and fired. No I/O, no clock."""

    rules: Sequence[Rule]
    counters: list[Counter] = field(init=False)

    def __post_init__(self) -> None:
        self.counters = [Counter() for _ in self.rules]

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Schedule:
        return cls([Rule.parse(line) for line in lines])

    def needs_http(self) -> str | None:
        """Why these rules cannot be carried out on bytes of another protocol; None when they can."""
        for rule in self.rules:
            verbs = rule.fault.verbs()
            foreign = [v for v in verbs if not isinstance(v, RAW)]
            if foreign:
                return f"{rule.fault.id} needs HTTP to {type(foreign[0]).__name__.lower()}"
            if Close(Ending.NOTIFY) in verbs:
                return "a store that does not speak HTTP has no TLS here"
            if rule.who not in (TCP, CONNECTION, "*"):
                return f"{rule.who} is a request of HTTP; a connection is called {TCP} here"
            if rule.who != CONNECTION and rule.position.kind not in ("wire", "sent"):
                return f"{rule.position} is found by reading HTTP; bytes of a connection are {BYTES}"
        return None

    def aim(self, object_size: int | None) -> Schedule:
        """The same rules with percentages turned into offsets of an object of this size."""
        return Schedule(
            [Rule(r.who, r.path, r.ordinals, r.fault, r.position.aim(object_size)) for r in self.rules]
        )

    def _arm(self, index: int) -> Armed | None:
        rule, counter = self.rules[index], self.counters[index]
        counter.matched += 1
        if rule.ordinals.once:
            return Armed(index, rule) if not counter.fired else None
        return Armed(index, rule) if counter.matched in rule.ordinals else None

    def request(self, method: str, target: str, operation: str) -> list[Armed]:
        """A request has arrived: the rules that are in force for it, in order."""
        path = target.partition("?")[0]
        hits = [i for i, rule in enumerate(self.rules) if rule.matches(method, path, operation)]
        return [armed for i in hits if (armed := self._arm(i))]

    def connection(self) -> list[Armed]:
        """A connection has been accepted: the rules in force for it."""
        hits = [i for i, rule in enumerate(self.rules) if rule.who == CONNECTION]
        return [armed for i in hits if (armed := self._arm(i))]

    def refusals(self, accepted: int) -> list[Armed]:
        """Rules that refuse the next connection, number `accepted` + 1, and have not fired yet."""
        return [
            Armed(i, rule)
            for i, rule in enumerate(self.rules)
            if rule.who == CONNECTION
            and any(isinstance(v, Refuse) for v in rule.fault.verbs())
            and accepted + 1 in rule.ordinals
            and not self.counters[i].fired
        ]

    @property
    def changes_objects(self) -> bool:
        """Whether a case needs an object of its own: one that changes, or one with a twin."""
        verbs = [v for rule in self.rules for v in rule.fault.verbs()]
        return any(isinstance(v, Mutate) for v in verbs) or self.needs_twin

    @property
    def backends(self) -> list[str]:
        """How many servers behind the store are to run, by its faults; such a case needs it for itself."""
        verbs = [v for rule in self.rules for v in rule.fault.verbs()]
        return [v.backends for v in verbs if isinstance(v, Mutate) and v.backends]

    @property
    def alters_source(self) -> bool:
        return any(isinstance(v, Alter) for rule in self.rules for v in rule.fault.verbs())

    @property
    def needs_twin(self) -> bool:
        return any(edit.twin for rule in self.rules for edit in rule.edits)

    def fire(self, armed: Armed) -> bool:
        """Claim the firing; False when the rule has healed meanwhile (another request was faster)."""
        counter = self.counters[armed.index]
        if armed.fired or (armed.rule.ordinals.once and counter.fired):
            return False
        armed.fired = True
        counter.fired += 1
        return True

    def release(self, armed: Armed) -> None:
        """Take a claim back: the response ended before the byte, so the rule waits for another one."""
        if armed.fired:
            armed.fired = False
            self.counters[armed.index].fired -= 1
