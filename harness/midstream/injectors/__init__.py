"""Injectors: what stands on the wire and carries faults out, one file each.

An injector declares the verbs it carries; a fault that asks for another is `not_applicable` there. A
`Session` is the injector's side of one case: an address for the driver, the schedule, the evidence.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from midstream._evidence import Event, Evidence
from midstream._registry import Availability
from midstream._schedule import Schedule
from midstream._verbs import Act, Verb

Operation = Callable[[str, str, Mapping[str, str]], str]


@dataclass(frozen=True)
class Plan:
    """What a session needs to know: where the store is, what is to go wrong, how requests are read.

    `object_size` resolves percentages (None: from the responses); `listen_port` 0 takes a free one. `act`
    carries out what is not done on the wire (Mutate, Kill, Alter) while the message waits; it may block. With
    `looks` it is also asked to Look when the store has published an object. With `tls` the driver's side of
    the connection is TLS. With `raw` nothing is read as HTTP: each connection is relayed byte by byte (see
    `Schedule.needs_http` for what is possible then), to the socket at `path` where one is given.
    """

    upstream: tuple[str, int]
    schedule: Schedule
    operation: Operation
    object_size: int | None = None
    listen_port: int = 0
    on_event: Callable[[Event], None] | None = None
    act: Callable[[Act], None] | None = None
    looks: bool = False
    tls: ssl.SSLContext | None = None
    raw: bool = False
    path: str = ""


class Session(ABC):
    """One case on the wire. `url` is what a driver is given.

    `bundle` is the trust bundle it needs for this session's TLS, where that is by an authority of the
    engine's own in place of the plan's.
    """

    url: str
    bundle: Path | None = None

    @abstractmethod
    def note(self, text: str) -> None:
        """Add a remark of the runner's to the evidence; from any thread."""

    @abstractmethod
    def close(self) -> Evidence:
        """End every connection, free the port, give the evidence. May be called twice."""


class RunningInjector(ABC):
    """A started injector; `open` and `stop` may be called from any thread."""

    @abstractmethod
    def open(self, plan: Plan) -> Session:
        """Listen for one case, armed before the first connection. Raises SetupError (port in use)."""

    @abstractmethod
    def stop(self) -> None:
        """End all sessions."""


class Injector(ABC):
    """A kind of injector."""

    id: ClassVar[str]
    summary: ClassVar[str]
    verbs: ClassVar[frozenset[type]]
    raw: ClassVar[bool] = False  # whether it relays other protocols than HTTP, too
    in_requests: ClassVar[bool] = False  # whether it acts at an exact byte of a request's body

    @abstractmethod
    def available(self) -> Availability: ...

    @abstractmethod
    def start(self) -> RunningInjector: ...

    def carries(self, schedule: Schedule) -> str | None:
        """None when every verb of the schedule can be carried out, else why not."""
        wanted: set[type] = {type(v) for rule in schedule.rules for v in rule.fault.verbs()}
        if missing := sorted(t.__name__.lower() for t in wanted - self.verbs):
            return f"{self.id} cannot {', '.join(missing)}"
        if not self.in_requests and any(rule.in_request for rule in schedule.rules):
            return f"{self.id} does not act at an exact byte of a request's body"
        return None


__all__ = ["Injector", "Operation", "Plan", "RunningInjector", "Session", "Verb"]
