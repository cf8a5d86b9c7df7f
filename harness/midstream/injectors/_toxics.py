"""Faults in toxiproxy's words, and its HTTP API.

toxiproxy knows bytes, not messages: a toxic acts on a whole connection, from its first byte on. So a fault is
carried out by a proxy of its own, made for one request, whose toxics are set before anybody connects to it:

    cut:fin at N     limit_data N
    cut:rst at N     limit_data N, slow_close for ever, and reset_peer at toxicity 0, whose mere presence
                     makes toxiproxy close with a zero linger; the close is let go once all N have arrived,
                     since a reset takes along what the sender's kernel still holds
    stall at N       limit_data N, slow_close for ever
    delay, stall for a time (before the head)    latency
    stall before the request                     timeout 0 on the way to the store, so that it sees nothing
    cut before the request, hangup               timeout 1 ms likewise, with reset_peer for a reset
    throttle         bandwidth, in whole kB/s

The client is the standard library's: the package toxiproxy-python (0.1.1, the last) keeps the server's
address in a class, so that one process can talk to one server only, needs the package `future`, and has no
types. The API is five calls.
"""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from midstream._errors import HarnessError
from midstream._operations import APPEARS, GROUPS, OPERATIONS, SENDS
from midstream._schedule import CONNECTION, Rule, Schedule
from midstream._verbs import Close, Ending, Hold, Kill, Mutate, Pace, Refuse, Verb

FOREVER_MS = 10**12  # thirty years
KB = 1000  # toxiproxy's: 1 kB/s is a byte per millisecond
API_SECONDS = 10.0
LETS_GO = "lets-go"  # the toxic that keeps a connection open until it is told otherwise


@dataclass(frozen=True)
class Toxic:
    """One toxic; `stream` is downstream (to the client) or upstream."""

    type: str
    attributes: tuple[tuple[str, int], ...] = ()
    stream: str = "downstream"
    toxicity: float = 1.0
    name: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name or f"{self.type}-{self.stream}",
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
            "attributes": dict(self.attributes),
        }


def limit(count: int) -> Toxic:
    return Toxic("limit_data", (("bytes", count),))


def stay() -> Toxic:
    """Keep the connection open behind the last byte, until it is let go."""
    return Toxic("slow_close", (("delay", FOREVER_MS),), name=LETS_GO)


def by_reset(stream: str = "downstream") -> Toxic:
    """Never takes effect itself, but has the connection closed with a zero linger."""
    return Toxic("reset_peer", (("timeout", 0),), stream, toxicity=0.0)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, never fewer than asked for."""
    return math.ceil(round(seconds * 1000, 6))


# --- what can be carried


def is_engines(verb: Verb) -> bool:
    """Whether the engine has to do with a verb; the others are done while the response waits."""
    return not isinstance(verb, Kill | Mutate | Refuse)


def waits_for_head(rule: Rule) -> bool:
    """Whether a rule fires before the first byte of a response."""
    p = rule.position
    return (p.kind, p.value, p.delta) in (("place", "head", 0), ("wire", 0, 0))


# Operations that change nothing, so that a request for one may be rehearsed.
ASKED_TWICE = OPERATIONS.keys() - SENDS - APPEARS - GROUPS.keys() - {"abort_upload", "delete_object"}


def refusal(rule: Rule) -> str | None:
    """Why toxiproxy cannot carry out a rule; None when it can."""
    verbs = rule.fault.verbs()
    at_start = rule.at_request or waits_for_head(rule)
    for verb in verbs:
        match verb:
            case Close(Ending.HALF):
                return "toxiproxy closes both directions at once, so there is no half-close"
            case Close(Ending.NOTIFY):
                return "toxiproxy knows no TLS, so it sends no close_notify"
            case Hold(float() | int()) if not at_start:
                return "toxiproxy cannot pause in the middle of a response: a latency delays every byte of it"
            case Pace(rate) if rate < KB:
                return f"toxiproxy's bandwidth counts in kB/s: {rate} bytes/s is below the smallest"
            case Pace() if not at_start:
                return "toxiproxy's bandwidth holds from the first byte of a response, not from a later one"
            case Close() | Hold() | Pace() | Refuse() | Kill() | Mutate():
                pass
            case _:
                return f"toxiproxy knows no HTTP, so it cannot {type(verb).__name__.lower()}"
    if len(verbs) > 1:
        return f"toxiproxy cannot do several things at one byte, as {rule.fault.id} wants"
    if not at_start and rule.who not in (CONNECTION, "*", "GET", "HEAD") and rule.who not in ASKED_TWICE:
        return f"a {rule.who} cannot be asked for twice to learn where its response is to be cut"
    return None


def refusals(schedule: Schedule) -> str | None:
    """The first reason why a schedule cannot be carried out."""
    return next(filter(None, map(refusal, schedule.rules)), None)


def resets(schedule: Schedule) -> bool:
    """Whether any connection is to end by a reset."""
    return any(v == Close(Ending.RST) for rule in schedule.rules for v in rule.fault.verbs())


# --- a fault in toxics


@dataclass(frozen=True)
class Due:
    """A verb and the byte of the response stream it is due at."""

    at: int
    verb: Verb
    before_request: bool = False


def toxics(due: Sequence[Due]) -> list[Toxic]:
    """The toxics that carry out what is due, in their order; what lies behind an ending is never reached."""
    found: list[Toxic] = []
    for one in due:
        match one.verb:
            case Close(ending) if one.before_request:
                resetting = [by_reset("upstream")] if ending is Ending.RST else []
                return [*found, Toxic("timeout", (("timeout", 1),), "upstream"), *resetting]
            case Hold(None) if one.before_request:
                return [*found, Toxic("timeout", (("timeout", 0),), "upstream")]
            case Hold(float() | int() as seconds):
                stream = "upstream" if one.before_request else "downstream"
                found.append(Toxic("latency", (("latency", milliseconds(seconds)),), stream))
            case Pace(rate):
                found.append(Toxic("bandwidth", (("rate", rate // KB),)))
            case Close(Ending.RST):
                return [*found, limit(one.at), stay(), by_reset()]
            case Close():
                return [*found, limit(one.at)]
            case Hold(None):
                return [*found, limit(one.at), stay()]
    return found


# --- the API


class Api:
    """toxiproxy's HTTP API. Every call raises HarnessError when it is not answered as it should."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def _call(self, method: str, path: str, body: object = None, also: tuple[int, ...] = ()) -> Any:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=API_SECONDS)
        data = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise HarnessError(f"toxiproxy does not answer at {self.host}:{self.port}: {error}") from None
        finally:
            connection.close()
        if not 200 <= answer.status < 300 and answer.status not in also:
            text = said.decode("utf-8", "replace").strip()
            raise HarnessError(f"toxiproxy: {method} {path} gave {answer.status}: {text[:200]}")
        return json.loads(said) if said.startswith((b"{", b"[")) else None

    def proxies(self) -> list[str]:
        """The names of all proxies."""
        return list(self._call("GET", "/proxies"))

    def create(self, name: str, upstream: tuple[str, int], chain: Sequence[Toxic] = ()) -> tuple[str, int]:
        """A proxy with its toxics in force; gives where it listens."""
        # Listening on a free port is left to the server: nobody can take it in between.
        wanted = {"name": name, "listen": f"{self.host}:0", "upstream": "{}:{}".format(*upstream)}
        made = self._call("POST", "/proxies", {**wanted, "enabled": True})
        for toxic in chain:
            self._call("POST", f"/proxies/{name}/toxics", toxic.as_json())
        return self.host, int(str(made["listen"]).rpartition(":")[2])

    def let_go(self, name: str) -> None:
        """Close what `stay` keeps open."""
        self._call("POST", f"/proxies/{name}/toxics/{LETS_GO}", {"attributes": {"delay": 0}})

    def enable(self, name: str, on: bool, listen: tuple[str, int]) -> None:
        """Take a proxy down, with its connections, or up again where it was."""
        self._call("POST", f"/proxies/{name}", {"enabled": on, "listen": "{}:{}".format(*listen)})

    def remove(self, name: str) -> None:
        """Remove a proxy and end its connections; one that is gone is well."""
        self._call("DELETE", f"/proxies/{name}", also=(404,))
