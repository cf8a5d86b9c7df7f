"""`midstream calibrate`: how exact an injector is here, by a raw client, and what it costs.

For each ending a trial asks for an object and has the response end at a byte drawn anew; what arrives is
counted and compared. A quarter of the trials read slowly through a small receive buffer, where an engine that
closes too early loses what was still on its way. Nothing is computed with the code under test.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import random
import re
import select
import shutil
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from midstream._calibration import ENDINGS, Calibration, Measured, Row
from midstream._content import Content
from midstream._errors import SetupError
from midstream._evidence import fold
from midstream._registry import load
from midstream._schedule import Schedule
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.stores import RunningStore, Store, Traits

SIZE = 1 << 20  # of the object that is cut
SMALL = 1024  # of the one whose answers are timed
LARGE = 256 << 20  # of the one whose bytes are
ROUNDS = 300  # answers that are timed
ARMED_ROUNDS = 60
WAIT = 30.0
QUIET = 0.02  # seconds in which nothing may come behind a stall


class Source:
    """A server that sends one large answer as fast as the kernel can: the engine is to be the slower part."""

    def __init__(self) -> None:
        self._file = os.memfd_create("midstream-calibrate")
        os.ftruncate(self._file, LARGE)
        os.posix_fallocate(self._file, 0, LARGE)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(sock,), daemon=True).start()

    def _answer(self, sock: socket.socket) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode()
        with sock, contextlib.suppress(OSError):
            while sock.recv(65536):
                sock.sendall(head)
                sent = 0
                while sent < LARGE:
                    sent += os.sendfile(sock.fileno(), self._file, sent, LARGE - sent)

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT)
        os.close(self._file)


def operation(method: str, target: str, headers: object) -> str:
    return "get_object" if method == "GET" else "other"


@dataclass
class Got:
    """What a raw client got of one answer: payload bytes behind the head, and the end it met."""

    body: int
    end: str
    first: float = 0.0  # seconds until the first byte


class RawClient:
    """One connection that asks and counts."""

    def __init__(self, port: int, buffer: int | None = None) -> None:
        self._sock = socket.socket()
        if buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._sock.settimeout(WAIT)
        self._sock.connect(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._room = bytearray(1 << 20)

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def ask(self, path: str) -> None:
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def take(self, size: int, piece: int = 1 << 20) -> Got:
        """Head and `size` payload bytes, or fewer and the end: eof, reset or open."""
        asked = time.perf_counter()
        head, body, first = b"", -1, 0.0
        view = memoryview(self._room)[:piece]
        while body < size:
            try:
                n = self._sock.recv_into(view)
            except ConnectionResetError:
                return Got(max(body, 0), "reset", first)
            if not n:
                return Got(max(body, 0), "eof", first)
            first = first or time.perf_counter() - asked
            if body >= 0:
                body += n
                continue
            head += bytes(view[:n])
            if (end := head.find(b"\r\n\r\n")) >= 0:
                body = len(head) - end - 4
        return Got(body, "open", first)

    def quiet(self) -> bool:
        """Whether the connection stays open and silent for a moment."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(QUIET * 1000)


@contextlib.contextmanager
def session(running: RunningInjector, port: int, *rules: str) -> Iterator[Session]:
    plan = Plan(("127.0.0.1", port), Schedule.parse(rules), operation, None)
    opened = running.open(plan)
    try:
        yield opened
    finally:
        opened.close()


def port_of(opened: Session) -> int:
    return int(opened.url.rpartition(":")[2])


def path_of(store: RunningStore, key: str) -> str:
    return store.access(key, "").url


def trial(running: RunningInjector, store: RunningStore, row: Row, at: int, slow: bool) -> None:
    """One response that is to end before payload byte `at`; adds to the row."""
    rule = f"GET#1 stall@{at}" if row.ending == "stall" else f"GET#1 cut@{at}:{row.ending}"
    with session(running, store.port, rule) as opened:
        with RawClient(port_of(opened), 4096 if slow else None) as client:
            client.ask(path_of(store, "cut"))
            piece = 4096 if slow else 1 << 20
            if row.ending == "stall":
                got = client.take(at, piece)
                end = "open" if got.end == "open" and client.quiet() else "more"
            else:
                got = client.take(SIZE + 1, piece)
                end = got.end
        facts = fold(opened.close())
    row.trials += 1
    wanted = {"rst": "reset", "stall": "open"}.get(row.ending, "eof")
    if got.body != at:
        row.off[got.body - at] = row.off.get(got.body - at, 0) + 1
    elif end != wanted:
        row.wrong_end += 1
    elif facts.trouble or len(facts.fired) != 1:
        row.trouble += 1
    else:
        row.exact += 1


def measure_ending(
    kind: Injector, running: RunningInjector, store: RunningStore, ending: str, trials: int
) -> Row:
    """All trials of one ending."""
    row = Row(ending)
    sample = Schedule.parse([f"GET#1 stall@{SIZE // 2}" if ending == "stall" else f"GET#1 cut@5:{ending}"])
    if reason := kind.carries(sample):
        row.reason = reason
        return row
    draw = random.Random(ending)
    for number in range(trials):
        slow = number % 4 == 3
        trial(running, store, row, draw.randrange(1, SIZE // 8 if slow else SIZE), slow)
    return row


def answer_times(port: int, path: str, rounds: int) -> list[float]:
    """Seconds from a request to its whole answer, on one connection."""
    times = []
    with RawClient(port) as client:
        for _ in range(rounds):
            begun = time.perf_counter()
            client.ask(path)
            client.take(SMALL)
            times.append(time.perf_counter() - begun)
    return times


def rate_of(port: int) -> float:
    """Bytes per second of a large object; the better of three, for the machine has other things to do."""
    best = 0.0
    for _ in range(3):
        with RawClient(port) as client:
            begun = time.perf_counter()
            client.ask("/")
            got = client.take(LARGE)
            best = max(best, got.body / (time.perf_counter() - begun))
    return best


def first_byte(running: RunningInjector, store: RunningStore, armed: bool) -> float:
    """The median of the seconds to the first byte of an answer on a new connection."""
    times = []
    rules = (f"GET#1 cut@{SIZE // 2}",) if armed else ()
    for _ in range(ARMED_ROUNDS):
        with session(running, store.port, *rules) as opened, RawClient(port_of(opened)) as client:
            client.ask(path_of(store, "cut"))
            times.append(client.take(SIZE // 2).first)
    return statistics.median(times)


def machine() -> str:
    """The processor, the cores that may be used, the kernel and the interpreter."""
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    name = found[1] if found else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return (
        f"{name}, {cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def calibrate(
    injectors: Sequence[str], trials: int, say: Callable[[str], None] = lambda _: None
) -> Calibration:
    """Measure; raises UsageError or SetupError before anything runs."""
    kinds: list[Injector] = [load("injectors", name) for name in injectors]
    for kind in kinds:
        here = kind.available()
        if not here.available:
            raise SetupError(f"injector {kind.id}: {here.reason}; {here.hint}")
    origin: Store = load("stores", "origin")
    folder = Path(tempfile.mkdtemp(prefix="midstream-calibrate-"))
    store = origin.start(folder)
    source = Source()
    try:
        for key, size in (("cut", SIZE), ("small", SMALL)):
            store.put(key, Content(size, 1), Traits(digest=False))
        direct = statistics.median(answer_times(store.port, path_of(store, "small"), ROUNDS))
        found = Calibration(
            machine(),
            datetime.datetime.now(datetime.UTC).date().isoformat(),
            trials,
            rate_of(source.port),
            direct,
        )
        for kind in kinds:
            found.injectors.append(_one(kind, store, source, found, trials, say))
        return found
    finally:
        source.stop()
        store.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _one(
    kind: Injector,
    store: RunningStore,
    source: Source,
    found: Calibration,
    trials: int,
    say: Callable[[str], None],
) -> Measured:
    running = kind.start()
    try:
        version = kind.available().version
        measured = Measured(kind.id, version)
        for ending in ENDINGS:
            say(f"{kind.id}: {ending}")
            measured.rows.append(measure_ending(kind, running, store, ending, trials))
        say(f"{kind.id}: times")
        with session(running, store.port) as clean:
            times = answer_times(port_of(clean), path_of(store, "small"), ROUNDS)
            measured.latency = statistics.median(times) - found.direct_latency
        with session(running, source.port) as clean:
            measured.rate = rate_of(port_of(clean))
        measured.armed = first_byte(running, store, True) - first_byte(running, store, False)
        return measured
    finally:
        running.stop()
