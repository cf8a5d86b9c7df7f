"""The embedded injector: an HTTP/1.1-aware relay on loopback, one event loop for all sessions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

from midstream._errors import SetupError
from midstream._evidence import Event, Evidence
from midstream._registry import Availability
from midstream._schedule import Armed
from midstream._verbs import (
    Alter,
    Close,
    EditRequest,
    Hold,
    Kill,
    Mutate,
    Pace,
    Refuse,
    Respond,
    Rewrite,
    Send,
    Swallow,
)
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.injectors._case import Case, Client
from midstream.injectors._raw import RawRelay
from midstream.injectors._relay import Relay
from midstream.injectors._sockets import wait
from midstream.injectors._tls import TlsSocket


class _Reporting(Evidence):
    """Evidence that tells a listener of each event as it is added."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._tell = plan.on_event

    def add(self, kind: str, at: float, connection: int = 0, exchange: int = 0, **data: Any) -> None:
        super().add(kind, at, connection, exchange, **data)
        if self._tell:
            try:
                self._tell(Event(kind, at, connection, exchange, data))
            except Exception as error:  # a listener must not bring the wire down, nor go unnoticed
                self._tell = None
                reason = f"the listener for events failed: {type(error).__name__}: {error}"
                super().add("upstream-failed", at, reason=reason)


class EmbeddedSession(Session):
    """One case: a listener, its connections, its evidence. Lives on the injector's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: Plan) -> None:
        self._loop = loop
        self._plan = plan
        self._started = time.monotonic()
        self.evidence = _Reporting(plan)
        self._case = Case(
            plan.upstream,
            plan.schedule,
            plan.operation,
            plan.object_size,
            self.evidence,
            lambda: time.monotonic() - self._started,
            plan.act,
            plan.path,
            plan.looks,
        )
        self._accepted = 0
        self._open: dict[asyncio.Task[None], Relay] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = threading.Lock()
        self._closed = False
        # Two sockets on one port: the listener comes and goes with refusals, the keeper, which never
        # listens, holds the port meanwhile and makes the kernel answer with a reset.
        self._keeper = socket.socket()
        self._keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._keeper.bind(("127.0.0.1", plan.listen_port))
            self._listener: socket.socket | None = self._listen()
        except OSError as error:
            self._keeper.close()
            raise SetupError(f"cannot listen on 127.0.0.1:{plan.listen_port}: {error.strerror}") from None
        scheme = "tcp" if plan.raw else "https" if plan.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self._keeper.getsockname()[1]}"
        self._accepting = loop.create_task(self._accept())

    def _listen(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", self._keeper.getsockname()[1]))
            sock.setblocking(False)
            if not self._plan.schedule.refusals(self._accepted):
                sock.listen(128)
        except OSError:
            sock.close()
            raise
        return sock

    def _trouble(self, error: Exception, connection: int = 0) -> None:
        """Ours, never the driver's: the verdict must be a harness error."""
        reason = f"the injector failed: {type(error).__name__}: {error}"
        self.evidence.add("upstream-failed", self._case.now(), connection, reason=reason)

    async def _accept(self) -> None:
        try:
            await self._accept_all()
        except Exception as error:
            self._trouble(error)

    async def _accept_all(self) -> None:
        while True:
            await self._refuse_if_due()
            assert self._listener
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                await wait(read=(self._listener,))
                continue
            except ConnectionError:
                continue
            except OSError as error:  # out of descriptors: the next connections may be luckier
                self._trouble(error)
                await asyncio.sleep(0.05)
                continue
            self._accepted += 1
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            armed = [a for a in self._plan.schedule.connection() if not _refuses(a)]
            tls = self._plan.tls
            relay = self.relay(TlsSocket(client, tls) if tls else client)
            task = self._loop.create_task(self._serve(relay, armed))
            self._open[task] = relay
            self._idle.clear()

    def relay(self, client: Client) -> Relay:
        """What serves a connection; for sessions that do it in their own way."""
        kind = RawRelay if self._plan.raw else Relay
        return kind(self._case, client, self._accepted)

    async def _serve(self, relay: Relay, armed: list[Armed]) -> None:
        task = asyncio.current_task()
        try:
            await relay.run(armed)
        except asyncio.CancelledError:
            relay.discard()
        except Exception as error:
            self._trouble(error, relay.number)
            relay.discard()
        finally:
            assert task
            self._open.pop(task, None)
            if not self._open:
                self._idle.set()

    async def _refuse_if_due(self) -> None:
        refused = False
        for armed in self._plan.schedule.refusals(self._accepted):
            # At once, so that none waits in the backlog for earlier connections to end; the time counts
            # from when they have.
            self._unlisten()
            await self._idle.wait()
            if not self._plan.schedule.fire(armed):
                continue
            await self.refusing(True)
            self.evidence.add(
                "fault",
                self._case.now(),
                rule=armed.index,
                spec=str(armed.rule),
                wire=0,
                body=0,
                offset=None,
            )
            for verb in armed.rule.fault.verbs():
                if isinstance(verb, Refuse):
                    await asyncio.sleep(1e9 if verb.seconds is None else verb.seconds)
            await self.refusing(False)
            refused = True
        if self._listener is None:
            self._listener = self._listen()
        self._listener.listen(128)
        if refused:
            self.evidence.add("window", self._case.now(), state="accepting again")

    async def refusing(self, on: bool) -> None:
        """Connections are refused from now on, or will be accepted again; for sessions with more to do."""

    def _unlisten(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None

    def note(self, text: str) -> None:
        self.evidence.add("note", self._case.now(), text=text)

    def close(self) -> Evidence:
        with self._closing:
            if not self._closed:
                asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
                self._closed = True
        return self.evidence

    async def _close(self) -> None:
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._unlisten()  # first: whoever sees its connection end finds nobody to come back to
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for relay in self._open.values():  # cancelled before it began
            relay.discard()
        self._open.clear()
        self._keeper.close()


def _refuses(armed: Armed) -> bool:
    return any(isinstance(v, Refuse) for v in armed.rule.fault.verbs())


class RunningEmbedded(RunningInjector):
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="midstream-injector", daemon=True)
        self._thread.start()
        self._sessions: weakref.WeakSet[EmbeddedSession] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._stopped = False

    def open(self, plan: Plan) -> Session:
        return self.begin(lambda: EmbeddedSession(self._loop, plan))

    def begin(self, session_of: Callable[[], EmbeddedSession]) -> Session:
        """A session made on the loop. Raises SetupError."""

        async def make() -> EmbeddedSession:
            return session_of()

        with self._lock:
            if self._stopped:
                raise SetupError("the injector has been stopped")
            session = asyncio.run_coroutine_threadsafe(make(), self._loop).result(30)
            self._sessions.add(session)
        return session

    def stop(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            for session in list(self._sessions):
                with contextlib.suppress(Exception):
                    session.close()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            if not self._thread.is_alive():
                self._loop.close()


class Embedded(Injector):
    """Runs in the harness's own process; exact at every position it knows, zero-copy far from a fault."""

    id: ClassVar[str] = "embedded"
    summary: ClassVar[str] = "HTTP/1.1-aware relay in the harness itself, exact to the byte"
    verbs: ClassVar[frozenset[type]] = frozenset(
        {Alter, Close, EditRequest, Hold, Kill, Mutate, Pace, Refuse, Respond, Rewrite, Send, Swallow}
    )
    raw: ClassVar[bool] = True
    in_requests: ClassVar[bool] = True

    def available(self) -> Availability:
        return Availability()

    def start(self) -> RunningInjector:
        return RunningEmbedded()


MEMBER = Embedded()
