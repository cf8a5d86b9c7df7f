"""toxiproxy as an injector: Shopify's TCP proxy carries the wire faults out, a relay of ours watches it.

The driver talks to the relay, which looks into the requests, has a proxy armed in toxiproxy for each one
that a rule is for, and passes the bytes on; what toxiproxy then did is checked against what was asked for.
See `_toxics` for how a fault is said in toxics and `_observer` for what is checked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from midstream._container import Container
from midstream._errors import HarnessError, SetupError
from midstream._evidence import Evidence
from midstream._parts import PARTS, Found, find
from midstream._processes import free_port
from midstream._registry import Availability
from midstream._schedule import Schedule
from midstream._verbs import Close, Hold, Kill, Mutate, Pace, Refuse
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.injectors._case import Client
from midstream.injectors._engine import EngineProcess, ask_version
from midstream.injectors._observer import Observer
from midstream.injectors._relay import Relay
from midstream.injectors._toxics import Api, Due, by_reset, limit, refusals, resets, stay, toxics
from midstream.injectors.embedded import EmbeddedSession, RunningEmbedded

START_SECONDS = 10.0
TRIES = 3  # a port that was free may be taken before the server has it
PROBES = 5  # resets that are tried before one is promised
_NUMBERS = itertools.count(1)  # of this process, since several users of a server may be in it
MARK = "midstream"  # proxies of ours are called midstream-NAMESPACE-PID-BEGUN-NUMBER


def begun(pid: int) -> str | None:
    """When a process of this machine began, so that a reused number is told from it; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def namespace() -> int:
    """Within which process numbers mean what they do here: a container has its own (pid_namespaces(7))."""
    return Path("/proc/self/ns/pid").stat().st_ino


def is_stale(name: str) -> bool:
    """Whether a proxy is one of ours whose owner has ended without removing it.

    Whether an owner in another container has ended cannot be known from here.
    """
    found = re.fullmatch(rf"{MARK}-{namespace()}-(\d+)-(\d+)-\d+", name)
    return found is not None and begun(int(found[1])) != found[2]


class ContainedEngine(Container):
    """A server by docker, once it answers; raises SetupError when it does not."""

    def __init__(self, found: Found, options: Sequence[str], port: int) -> None:
        super().__init__(found, options, {})
        deadline = time.monotonic() + START_SECONDS
        while (version := ask_version("127.0.0.1", port)) is None:
            if time.monotonic() > deadline or not self.alive():
                said = self.tail()
                self.stop()
                raise SetupError(f"toxiproxy: the container of {found.what} did not get ready{said}")
            time.sleep(0.05)
        self.ready = {"version": version}


class Engine:
    """A toxiproxy server, ours or one that runs already. For several threads.

    Raises SetupError when it cannot be had, with the one thing to do about it.
    """

    def __init__(self, found: Found) -> None:
        self._found = found.require()
        self._process: EngineProcess | ContainedEngine | None = None
        self._folder: Path | None = None
        if found.how == "attach":
            parts = urlsplit(found.what)
            self.api = Api(parts.hostname or "", parts.port or 80)
            self.version = self._suitable(ask_version(self.api.host, self.api.port), found.what)
            self._remove_stale()
        else:
            self.api = Api("127.0.0.1", 0)
            self.version = self._start()

    def _suitable(self, version: str | None, where: str) -> str:
        part = PARTS["toxiproxy"]
        if version is None:
            raise SetupError(f"toxiproxy: nothing answers as one at {where}; start it, or {part.hint}")
        if not part.suits(version):
            least, below = (".".join(map(str, v)) for v in (part.least, part.below))
            raise SetupError(
                f"toxiproxy: {where} is version {version}; {least} or later, below {below}, is needed"
            )
        # A build from source does not know its number; who built it does.
        return version if re.search(r"\d", version) else self._found.version or version

    def _start(self) -> str:
        self._folder = Path(tempfile.mkdtemp(prefix="midstream-toxiproxy-"))
        try:
            for turn in range(1, TRIES + 1):
                port = free_port()
                try:
                    self._process = self._engine(port, self._folder)
                except SetupError as error:
                    if "address already in use" not in str(error) or turn == TRIES:
                        raise
                else:
                    break
            assert self._process
            self.api = Api("127.0.0.1", port)
            return self._suitable(str(self._process.ready["version"]), self._found.what)
        except BaseException:
            self.stop()
            raise

    def _engine(self, port: int, folder: Path) -> EngineProcess | ContainedEngine:
        options = ["-host", "127.0.0.1", "-port", str(port)]
        if self._found.how == "docker":
            return ContainedEngine(self._found, options, port)
        command = [self._found.what, *options]
        return EngineProcess("toxiproxy", folder, command, api=port, ready_seconds=START_SECONDS)

    @property
    def pid(self) -> int | None:
        """The server's process, when it is one of ours."""
        return self._process.engine_pid if isinstance(self._process, EngineProcess) else None

    def alive(self) -> bool:
        if self._process:
            return self._process.alive()
        return ask_version(self.api.host, self.api.port) is not None

    def name(self) -> str:
        """A name for a new proxy, by which its owner can be told."""
        return f"{MARK}-{namespace()}-{os.getpid()}-{begun(os.getpid())}-{next(_NUMBERS)}"

    def _remove_stale(self) -> None:
        """Remove what crashed runs have left in a server that outlived them."""
        for name in filter(is_stale, self.api.proxies()):
            self.api.remove(name)

    def stop(self) -> None:
        if self._process:
            self._process.stop()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Proxy:
    """An armed proxy, for the relay's loop: the API is called in threads."""

    def __init__(self, engine: Engine, name: str, address: tuple[str, int]) -> None:
        self._engine = engine
        self._name = name
        self.address = address

    async def let_go(self) -> None:
        await asyncio.to_thread(self._engine.api.let_go, self._name)

    async def remove(self) -> None:
        await asyncio.to_thread(self._engine.api.remove, self._name)


class ToxiproxySession(EmbeddedSession):
    """One case: the relay's listener, a clean proxy for it, and an armed one whenever a rule wants it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: Plan,
        engine: Engine,
        clean: str,
        address: tuple[str, int],
    ) -> None:
        self._engine = engine
        self._clean = clean
        self._address = address
        self._left: set[str] = {clean}
        self.reserved: set[int] = set()
        self._undecided = 0
        self._settled = asyncio.Event()
        self._settled.set()
        super().__init__(loop, plan)
        self._case.upstream = address

    def relay(self, client: Client) -> Relay:
        return Observer(self._case, client, self._accepted, self._plan.upstream, self)

    async def arm(self, due: Sequence[Due]) -> _Proxy:
        name = self._engine.name()
        self._left.add(name)
        make = self._engine.api.create
        address = await asyncio.to_thread(make, name, self._plan.upstream, toxics(due))
        return _Proxy(self._engine, name, address)

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        self._undecided += 1
        self._settled.clear()
        try:
            yield
        finally:
            self._undecided -= 1
            if not self._undecided:
                self._settled.set()

    async def _close(self) -> None:
        await self._settled.wait()
        await super()._close()

    async def refusing(self, on: bool) -> None:
        """The proxy is down for as long as the relay's port, which stands for it, is closed."""
        await asyncio.to_thread(self._engine.api.enable, self._clean, not on, self._address)
        if on != await asyncio.to_thread(_refuses, self._address):
            self._trouble(HarnessError(f"toxiproxy {'still' if on else 'no longer'} accepts connections"))

    def close(self) -> Evidence:
        first, self._left = self._left, set()
        evidence = super().close()
        if not first:
            return evidence
        if not self._engine.alive():
            self._trouble(HarnessError("toxiproxy ended during the case"))
            return evidence
        for name in first:
            try:
                self._engine.api.remove(name)
            except HarnessError as error:
                self._trouble(error)
        return evidence


def _refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False


class RunningToxiproxy(RunningEmbedded):
    """toxiproxy and the relays in front of it. A server of ours that has died is started again."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._starting = threading.Lock()
        self.engine = Engine(found)
        super().__init__()

    def _living(self) -> Engine:
        with self._starting:
            if not self.engine.alive():
                self.engine.stop()
                self.engine = Engine(self._found)
            return self.engine

    def open(self, plan: Plan) -> Session:
        if reason := refusals(plan.schedule):
            raise HarnessError(reason)
        engine = self._living()
        name = engine.name()
        address = engine.api.create(name, plan.upstream)
        try:
            return self.begin(lambda: ToxiproxySession(self._loop, plan, engine, name, address))
        except BaseException:
            engine.api.remove(name)
            raise

    def stop(self) -> None:
        super().stop()
        self.engine.stop()


class _Origin:
    """Sends so many bytes to each of its connections, then waits for them to end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                try:
                    sock.sendall(self._data)
                    while sock.recv(4096):
                        pass
                except OSError:
                    pass

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def measure_reset(engine: Engine) -> str | None:
    """Why the version at hand cannot be trusted with a reset; None when all of a few came out exact."""
    origin = _Origin(bytes(400_000))
    try:
        for trial in range(PROBES):
            count = 1 + trial * 70_001
            name = engine.name()
            address = engine.api.create(name, origin.address, [limit(count), stay(), by_reset()])
            try:
                seen = _until_end(engine, name, address, count)
            finally:
                engine.api.remove(name)
            if seen != (count, True):
                how = "a reset" if seen[1] else "no reset"
                return f"toxiproxy {engine.version} gave {seen[0]} of {count} bytes and {how} when tried"
    finally:
        origin.stop()
    return None


def _until_end(engine: Engine, name: str, address: tuple[str, int], count: int) -> tuple[int, bool]:
    with socket.create_connection(address, 10) as sock:
        got = 0
        try:
            while got < count and (n := len(sock.recv(1 << 16))):
                got += n
            engine.api.let_go(name)
            while n := len(sock.recv(1 << 16)):
                got += n
        except ConnectionResetError:
            return got, True
        except TimeoutError:
            pass
        return got, False


class Toxiproxy(Injector):
    """Exact at every byte, for what a TCP proxy can do; the rest is not applicable, with the reason."""

    id: ClassVar[str] = "toxiproxy"
    summary: ClassVar[str] = "Shopify's toxiproxy behind a relay that checks what it did to the byte"
    verbs: ClassVar[frozenset[type]] = frozenset({Close, Hold, Kill, Mutate, Pace, Refuse})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._resets: dict[tuple[str, str], str | None] = {}

    def available(self) -> Availability:
        return find("toxiproxy").availability()

    def start(self) -> RunningInjector:
        return RunningToxiproxy(find("toxiproxy"))

    def carries(self, schedule: Schedule) -> str | None:
        return refusals(schedule) or (self._no_reset() if resets(schedule) else None)

    def _no_reset(self) -> str | None:
        """Whether resets come out exact is tried once, on the version at hand."""
        found = find("toxiproxy")
        if not found:
            return None
        with self._lock:
            key = (found.what, found.version)
            if key not in self._resets:
                engine = Engine(found)
                try:
                    self._resets[key] = measure_reset(engine)
                finally:
                    engine.stop()
            return self._resets[key]


MEMBER = Toxiproxy()
