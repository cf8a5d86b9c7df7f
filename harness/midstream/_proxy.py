"""`midstream proxy`: the embedded injector before a server of the user's."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from midstream._errors import SetupError, UsageError
from midstream._evidence import Event
from midstream._operations import GROUPS, OPERATIONS, http_operation
from midstream._registry import load
from midstream._schedule import Schedule
from midstream._verbs import Alter, Close, EditRequest, Ending, Kill, Mutate, ResetStream
from midstream.injectors import Plan, RunningInjector, Session

# What `operation` tells apart, nothing being known of the store behind; the rest needs its protocol.
TOLD_APART = frozenset(GROUPS) | {
    *("get_object", "head_object", "put_object", "delete_object", "append_upload", "other"),
    *("create_upload", "upload_part", "complete_upload", "abort_upload", "list_parts", "list_uploads"),
}


def resolve_upstream(url: str, allowed: Sequence[str]) -> tuple[str, int]:
    """Address and port of the upstream.

    Raises UsageError when it is no http or tcp URL, or not on this machine and not allowed by name.
    """
    try:
        parts = urlsplit(url)
        port = 80 if parts.port is None else parts.port
        extra = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    except ValueError:
        parts, port, extra = urlsplit(""), 0, True
    explicit = parts.scheme == "http" or (parts.scheme == "tcp" and ":" in parts.netloc)
    if not explicit or not parts.hostname or not port or extra:
        raise UsageError(
            f"--upstream {url}: use http://HOST:PORT, or tcp://HOST:PORT for another protocol (TLS and paths "
            "are the client's business)"
        )
    named = parts.hostname in map(str.lower, allowed)
    if not named and not re.fullmatch(r"localhost|[0-9.]+", parts.hostname):
        raise UsageError(_elsewhere(url, parts.hostname))  # not even looked up
    try:
        found = socket.getaddrinfo(parts.hostname, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--upstream {url}: {getattr(error, 'strerror', None) or error}") from None
    address = str(found[0][4][0])
    if not ipaddress.ip_address(address).is_loopback and not named:
        raise UsageError(_elsewhere(url, parts.hostname))
    return address, port


def _elsewhere(url: str, host: str) -> str:
    return (
        f"--upstream {url}: {host} is not on this machine; faults are only let loose on it with "
        f"--allow-host {host}"
    )


def check_faults(schedule: Schedule, raw: bool = False) -> None:
    """Raises UsageError for a fault that needs what a plain proxy has not: a store, a driver process, TLS.

    A `raw` one has no HTTP either.
    """
    if raw and (reason := schedule.needs_http()):
        raise UsageError(f"--upstream tcp://...: {reason}")
    for rule in schedule.rules:
        if rule.who in OPERATIONS and rule.who not in TOLD_APART:
            raise UsageError(
                f"--fault {str(rule)!r}: the proxy does not know {rule.who} when it sees one; name the method"
            )
        for verb in rule.fault.verbs():
            needs = ""
            if isinstance(verb, Mutate) or (isinstance(verb, EditRequest) and verb.twin):
                needs = "a store of the harness's own, whose objects it can change"
            elif isinstance(verb, Alter):
                needs = "an upload of the harness's own, whose source it can change"
            elif isinstance(verb, Kill):
                needs = "a driver process of the harness's own"
            elif isinstance(verb, ResetStream):
                needs = "an injector that speaks HTTP/2"
            elif verb == Close(Ending.NOTIFY):
                needs = "TLS"
            if needs:
                raise UsageError(f"--fault {str(rule)!r}: {rule.fault.id} needs {needs}; the proxy has none")


def operation(method: str, target: str, headers: Mapping[str, str]) -> str:
    """Operations as plain HTTP tells them, and those of S3 that nothing else looks like: by their queries."""
    query = parse_qs(target.partition("?")[2], keep_blank_values=True)
    if query.keys() & {"uploads", "uploadId"}:
        return str(load("stores", "moto").operation(method, target, headers))
    return http_operation(method, target, headers)


def listen_port(text: str) -> int:
    """The port to listen on; raises UsageError for anything but a loopback address."""
    found = re.fullmatch(r"(?:(?:127\.0\.0\.1|localhost)?:)?([0-9]{1,5})", text)
    if not found or int(found[1]) > 65535:
        raise UsageError(f"--listen {text}: use 127.0.0.1:PORT; the proxy listens on this machine only")
    return int(found[1])


def describe(event: Event) -> str | None:
    """The line to print for an event, if it is one worth a line."""
    if event.kind == "upstream-failed":
        return f"trouble: {event.data['reason']}"
    if event.kind != "fault":
        return None
    d = event.data
    where = f"request {event.exchange}" if event.exchange else f"connection {event.connection}"
    offset = "" if d["offset"] is None else f", object offset {d['offset']}"
    return f"fired: {d['spec']} ({where}, {d['body']} body bytes sent{offset})"


class Told:
    """What the proxy's user is told: a line for what happens, and in the end one for what did not."""

    def __init__(self, faults: Sequence[str], say: Callable[[str], None]) -> None:
        self.faults = faults
        self.say = say
        self._fired: set[int] = set()
        self._waiting: set[int] = set()
        self._cut_off = False  # the upstream did not accept a connection

    def heed(self, event: Event) -> None:
        if line := describe(event):
            self.say(line)
        if event.kind == "fault":
            self._fired.add(event.data["rule"])
        elif event.kind == "unfired":
            self._waiting.add(event.data["rule"])
        elif event.kind == "upstream-failed":
            self._cut_off = True

    def end(self) -> None:
        """Name the faults that never fired: a test that met none of them has shown nothing."""
        for index, spec in enumerate(self.faults):
            if index not in self._fired:
                if index in self._waiting:
                    why = "its position was not reached"
                else:
                    why = "the upstream did not answer" if self._cut_off else "nothing matched it"
                self.say(f"never fired: {spec} ({why})")


def open_proxy(
    upstream: str, listen: str, allowed: Sequence[str], told: Told
) -> tuple[Session, RunningInjector]:
    """Start listening; raises UsageError or SetupError before anything runs."""
    try:
        schedule = Schedule.parse(told.faults)
    except UsageError as error:
        raise UsageError(f"--{error}") from None
    raw = upstream.startswith("tcp://")
    check_faults(schedule, raw)
    address = resolve_upstream(upstream, allowed)
    port = listen_port(listen)

    injector: RunningInjector = load("injectors", "embedded").start()
    try:
        return injector.open(Plan(address, schedule, operation, None, port, told.heed, raw=raw)), injector
    except SetupError as error:
        injector.stop()
        raise SetupError(f"--listen {listen}: {error}") from None
    except BaseException:
        injector.stop()
        raise
