"""The embedded injector: an HTTP/1.1-aware relay on loopback, one event loop for all sessions."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Coroutine
from typing import Any, ClassVar

from midstream._errors import SetupError
from midstream._evidence import Event, Evidence
from midstream._registry import Availability
from midstream._schedule import Armed
from midstream._verbs import Close, Hold, Pace, Refuse, Respond
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.injectors._relay import Case, Relay
from midstream.injectors._sockets import wait


class _Reporting(Evidence):
    """Evidence that tells a listener of each event as it is added."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._tell = plan.on_event

    def add(self, kind: str, at: float, connection: int = 0, exchange: int = 0, **data: Any) -> None:
        super().add(kind, at, connection, exchange, **data)
        if self._tell:
            self._tell(Event(kind, at, connection, exchange, data))


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
        )
        self._accepted = 0
        self._open: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
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
        self.url = f"http://127.0.0.1:{self._keeper.getsockname()[1]}"
        self._accepting = loop.create_task(self._accept())

    def _listen(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self._keeper.getsockname()[1]))
        sock.setblocking(False)
        if not self._plan.schedule.refusals(0):
            sock.listen(128)
        return sock

    async def _accept(self) -> None:
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
            self._accepted += 1
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            armed = [a for a in self._plan.schedule.connection() if not _refuses(a)]
            relay = Relay(self._case, client, self._accepted)
            task = self._loop.create_task(self._serve(relay, armed))
            self._open.add(task)
            self._idle.clear()

    async def _serve(self, relay: Relay, armed: list[Armed]) -> None:
        task = asyncio.current_task()
        try:
            await relay.run(armed)
        except asyncio.CancelledError:
            relay.discard()
        except Exception as error:  # ours, never the driver's: the verdict must be a harness error
            self.evidence.add(
                "upstream-failed",
                self._case.now(),
                relay.number,
                reason=f"the injector failed: {type(error).__name__}: {error}",
            )
            relay.discard()
        finally:
            assert task
            self._open.discard(task)
            if not self._open:
                self._idle.set()

    async def _refuse_if_due(self) -> None:
        for armed in self._plan.schedule.refusals(self._accepted):
            await self._idle.wait()
            if not self._plan.schedule.fire(armed):
                continue
            self._unlisten()
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
            self.evidence.add("window", self._case.now(), state="accepting again")
        if self._listener is None:
            self._listener = self._listen()
        self._listener.listen(128)

    def _unlisten(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None

    def close(self) -> Evidence:
        if not self._closed:
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        return self.evidence

    async def _close(self) -> None:
        self._accepting.cancel()
        tasks = [self._accepting, *self._open]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._unlisten()
        self._keeper.close()


def _refuses(armed: Armed) -> bool:
    return any(isinstance(v, Refuse) for v in armed.rule.fault.verbs())


class RunningEmbedded(RunningInjector):
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="midstream-injector", daemon=True)
        self._thread.start()
        self._stopped = False

    def _call(self, work: Coroutine[Any, Any, EmbeddedSession]) -> EmbeddedSession:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def open(self, plan: Plan) -> Session:
        async def make() -> EmbeddedSession:
            return EmbeddedSession(self._loop, plan)

        return self._call(make())

    def stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True

        async def drain() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(drain(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Embedded(Injector):
    """Runs in the harness's own process; exact at every position it knows, zero-copy far from a fault."""

    id: ClassVar[str] = "embedded"
    summary: ClassVar[str] = "HTTP/1.1-aware relay in the harness itself, exact to the byte"
    verbs: ClassVar[frozenset[type]] = frozenset({Close, Hold, Pace, Respond, Refuse})

    def available(self) -> Availability:
        return Availability()

    def start(self) -> RunningInjector:
        return RunningEmbedded()


MEMBER = Embedded()
