"""mitmproxy as an injector: an HTTP proxy in a process of its own, with an addon of ours inside.

It takes messages apart and puts them together again, speaks TLS by an authority of its own and HTTP/2 to a
driver that offers it. See `_mitm_addon` for what that takes and `_mitm_wire` for how a byte is stopped.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Protocol

from midstream._container import Container
from midstream._errors import HarnessError, MidstreamError, SetupError
from midstream._evidence import Event, Evidence
from midstream._parts import Endpoint, Found, find
from midstream._processes import Janitor
from midstream._registry import Availability
from midstream._schedule import Schedule
from midstream._verbs import (
    Close,
    EditRequest,
    Hold,
    Kill,
    Mutate,
    Pace,
    Refuse,
    ResetStream,
    Respond,
    Rewrite,
    Send,
)
from midstream.injectors import Injector, Plan, RunningInjector, Session
from midstream.injectors._engine import EngineProcess
from midstream.injectors._mitm_wire import CERTIFICATE, CONTROL, HELLO, nearby

START_SECONDS = 30.0
ANSWER_SECONDS = 30.0
PACKAGE = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).with_name("_mitm_script.py")
OPTIONS = {
    "server": "false",  # the addon listens
    "keep_host_header": "true",  # it may be signed
    "connection_strategy": "lazy",
    "validate_inbound_headers": "false",
    "upstream_cert": "false",
    "rawtcp": "false",
    "http3": "false",
    "onboarding": "false",
    "flow_detail": "0",
    "termlog_verbosity": "error",
}


class Process(Protocol):
    """What runs mitmdump."""

    def alive(self) -> bool: ...
    def stop(self) -> None: ...


class Elsewhere:
    """The process of an engine that somebody else runs: its end is that of the line to it."""

    def alive(self) -> bool:
        return True

    def stop(self) -> None:
        """Nothing: it is not ours."""


def command(binary: str, folder: Path) -> list[str]:
    """The command line of an engine whose files are in `folder`."""
    options = {**OPTIONS, "confdir": str(folder)}
    return [
        binary,
        "-q",
        *(word for name, value in options.items() for word in ("--set", f"{name}={value}")),
        "-s",
        str(SCRIPT),
    ]


class Engine:
    """mitmdump with the addon, and the line to it. For several threads.

    Raises SetupError when it does not start.
    """

    def __init__(self, found: Found) -> None:
        found.require()
        self.folder = Path(tempfile.mkdtemp(prefix="midstream-mitmproxy-"))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._replies: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._sessions: dict[int, MitmproxySession] = {}
        self._acts = ThreadPoolExecutor(8, "midstream-mitmproxy-acts")
        self._process: Process | None = None
        self._janitor: Janitor | None = None
        self._line: socket.socket | None = None
        self.version = ""
        self.lost = False
        try:
            self._begin(found)
        except BaseException:
            self.stop()
            raise

    @property
    def bundle(self) -> Path:
        """What a driver has to trust."""
        return self.folder / CERTIFICATE

    @property
    def pid(self) -> int | None:
        """The engine's process, when it is one of this machine's that we started."""
        return self._process.engine_pid if isinstance(self._process, EngineProcess) else None

    def _begin(self, found: Found) -> None:
        if found.how != "binary":  # the process of a binary removes its folder, should we be killed
            self._janitor = Janitor(self.folder)
        if found.how == "attach":
            self._process = Elsewhere()
            self._line = self._call(found.what)
        else:
            self._line = self._start(found)
        self._reader = self._line.makefile("rb")
        said = self._ready(found)
        self._line.settimeout(None)
        self.version = said["version"]
        if not self.bundle.exists():
            self.bundle.write_text(said["bundle"])
        self._thread = threading.Thread(target=self._listen, name="midstream-mitmproxy", daemon=True)
        self._thread.start()

    def _ready(self, found: Found) -> dict[str, Any]:
        """The first thing an engine says."""
        try:
            said = json.loads(self._reader.readline())
            if isinstance(said, dict) and said.get("kind") == "ready":
                return said
        except (OSError, ValueError):
            pass
        if found.how == "attach":
            raise SetupError(f"mitmproxy: what answers at {found.what} has no addon of ours")
        raise SetupError(f"mitmproxy: ended before it was ready{self._tail()}")

    def _call(self, url: str) -> socket.socket:
        """The line to an engine that runs already. Sessions listen where it does, so it has to be here."""
        endpoint = Endpoint.parse("the address of mitmproxy", url)
        if not endpoint.is_loopback:
            raise SetupError(f"mitmproxy: {url} is not on this machine, where its sessions have to be")
        try:
            line = socket.create_connection((endpoint.host, endpoint.port), START_SECONDS)
            line.sendall(HELLO)
        except OSError as error:
            raise SetupError(f"mitmproxy: nobody answers at {url}: {error}; start it") from None
        return line

    def _start(self, found: Found) -> socket.socket:
        """Start the engine, which then calls."""
        with socket.socket(socket.AF_UNIX) as listener:
            with nearby(self.folder) as near:
                listener.bind(f"{near}/{CONTROL}")
            listener.listen(1)
            listener.settimeout(0.05)
            env = {"MIDSTREAM_CONTROL": str(self.folder)}
            if found.how == "docker":
                words = command("mitmdump", self.folder)[1:]
                self._process = Container(
                    found, words, {**env, "HOME": str(self.folder)}, [self.folder, PACKAGE]
                )
            else:
                words = command(found.what, self.folder)
                self._process = EngineProcess(
                    "mitmproxy", self.folder, words, env=env, ready_seconds=START_SECONDS
                )
            return self._await(listener)

    def _await(self, listener: socket.socket) -> socket.socket:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                line, _ = listener.accept()
            except TimeoutError:
                if self._process and not self._process.alive():
                    raise SetupError(f"mitmproxy: ended before it was ready{self._tail()}") from None
            else:
                line.setblocking(True)
                return line
        raise SetupError(f"mitmproxy: not ready within {START_SECONDS:.0f} s{self._tail()}")

    def _tail(self) -> str:
        if isinstance(self._process, Container):
            return self._process.tail()
        try:
            text = (self.folder / "log").read_text("utf-8", "replace")
        except OSError:
            return ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return ": " + " | ".join(lines[-4:])[-600:] if lines else ""

    def alive(self) -> bool:
        return not self.lost and self._process is not None and self._process.alive()

    def _send(self, **message: Any) -> None:
        with self._lock:
            if self._line is None or self.lost:
                raise HarnessError(f"mitmproxy has ended{self._tail()}")
            try:
                self._line.sendall(json.dumps(message).encode() + b"\n")
            except OSError as error:
                raise HarnessError(f"mitmproxy has ended: {error.strerror}{self._tail()}") from None

    # --- what the engine says

    def _listen(self) -> None:
        """The thread that reads; whatever ends it ends the engine's use."""
        try:
            for text in self._reader:
                self._heed(json.loads(text))
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self.lost = True
                waiting = list(self._replies.values())
            for reply in waiting:
                reply.put({"error": "mitmproxy has ended"})

    def _heed(self, message: dict[str, Any]) -> None:
        number = message["session"]
        if message["kind"] == "done":
            if reply := self._replies.get(number):
                reply.put(message)
            return
        session = self._sessions.get(number)
        if message["kind"] == "event":
            if session:
                session.happened(message)
            return
        what, about = message["what"], message["about"]
        if what == "operation" and session:
            self._answer(message, lambda: session.plan.operation(*about))
        elif session:
            self._acts.submit(self._answer, message, lambda: session.act(*about))

    def _answer(self, message: dict[str, Any], work: Callable[[], Any]) -> None:
        answer: dict[str, Any] = {"kind": "answer", "session": message["session"]}
        answer["number"] = message["number"]
        try:
            answer["value"] = work()
        except Exception as error:  # the engine waits for an answer
            text = str(error) if isinstance(error, MidstreamError) else f"{type(error).__name__}: {error}"
            answer["error"] = text
        with contextlib.suppress(HarnessError):
            self._send(**answer)

    # --- what is asked of it

    def _request(self, kind: str, number: int, **more: Any) -> dict[str, Any]:
        reply = self._replies[number] = queue.SimpleQueue()
        try:
            self._send(kind=kind, session=number, **more)
            with self._lock:
                lost = self.lost
            said = {"error": "mitmproxy has ended"} if lost else reply.get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise HarnessError(f"mitmproxy does not answer{self._tail()}") from None
        finally:
            del self._replies[number]
        if "error" in said:
            text = str(said["error"])
            raise SetupError(text) if said.get("setup") else HarnessError(f"{text}{self._tail()}")
        return said

    def open(self, plan: Plan) -> MitmproxySession:
        number = next(self._numbers)
        session = MitmproxySession(self, number, plan)
        self._sessions[number] = session
        try:
            said = self._request(
                "open",
                number,
                upstream=list(plan.upstream),
                rules=[str(rule) for rule in plan.schedule.rules],
                object_size=plan.object_size,
                listen_port=plan.listen_port,
            )
        except BaseException:
            del self._sessions[number]
            raise
        scheme = "https" if plan.tls else "http"
        session.url = f"{scheme}://127.0.0.1:{said['port']}"
        return session

    def close(self, number: int) -> None:
        try:
            self._request("close", number)
        finally:
            self._sessions.pop(number, None)

    def stop(self) -> None:
        if self._line:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
        if self._process:
            self._process.stop()
        if self._line:
            if hasattr(self, "_thread"):
                self._thread.join(10)
            self._line.close()
        self._acts.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._janitor:
            self._janitor.close()


class MitmproxySession(Session):
    """One case; its TLS is by the authority of the engine."""

    def __init__(self, engine: Engine, number: int, plan: Plan) -> None:
        self._engine = engine
        self._number = number
        self.plan = plan
        self.url = ""
        self.bundle = engine.bundle
        self.evidence = Evidence()
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        self._tell = plan.on_event

    def _add(self, kind: str, at: float, connection: int = 0, exchange: int = 0, **data: Any) -> None:
        with self._lock:
            self.evidence.add(kind, at, connection, exchange, **data)
        if self._tell:
            try:
                self._tell(Event(kind, at, connection, exchange, data))
            except Exception as error:  # a listener must not bring the wire down, nor go unnoticed
                self._tell = None
                reason = f"the listener for events failed: {type(error).__name__}: {error}"
                self.evidence.add("upstream-failed", at, reason=reason)

    def happened(self, message: dict[str, Any]) -> None:
        """The engine tells of an event. Its clock is ours: the machine's."""
        data = message["data"]
        if "fields" in data:
            data["fields"] = [(n, v) for n, v in data["fields"]]
        at = message["at"] - self._started
        self._add(message["name"], at, message["connection"], message["exchange"], **data)

    def act(self, what: str, how: str) -> None:
        """Done for the engine, while the response waits."""
        if self.plan.act is None:
            raise HarnessError(f"nobody here can {what}")
        self.plan.act(Mutate(how) if what == "mutate" else Kill(how))

    def note(self, text: str) -> None:
        self._add("note", time.monotonic() - self._started, text=text)

    def close(self) -> Evidence:
        with self._closing:
            if not self._closed:
                self._closed = True
                try:
                    self._engine.close(self._number)
                except MidstreamError as error:
                    self._add("upstream-failed", time.monotonic() - self._started, reason=str(error))
        return self.evidence


class RunningMitmproxy(RunningInjector):
    """A running mitmdump; one that has died is started again."""

    def __init__(self, found: Found) -> None:
        self._found = found
        self._lock = threading.Lock()
        self._stopped = False
        self.engine = Engine(found)

    def open(self, plan: Plan) -> Session:
        if reason := Mitmproxy().carries(plan.schedule):
            raise HarnessError(reason)
        with self._lock:
            if self._stopped:
                raise SetupError("the injector has been stopped")
            if not self.engine.alive():
                self.engine.stop()
                self.engine = Engine(self._found)
            engine = self.engine
        return engine.open(plan)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self.engine.stop()


class Mitmproxy(Injector):
    """Carries every verb; what HTTP/2 has no place for is not reached there."""

    id: ClassVar[str] = "mitmproxy"
    summary: ClassVar[str] = "mitmproxy with an addon: HTTP/1.1, its own TLS, HTTP/2 to the driver"
    verbs: ClassVar[frozenset[type]] = frozenset(
        {Close, EditRequest, Hold, Kill, Mutate, Pace, Refuse, ResetStream, Respond, Rewrite, Send}
    )

    def available(self) -> Availability:
        return find("mitmproxy").availability()

    def start(self) -> RunningInjector:
        here = self.available()
        if not here.available:
            raise SetupError(f"mitmproxy: {here.reason}; {here.hint}")
        return RunningMitmproxy(find("mitmproxy"))

    def carries(self, schedule: Schedule) -> str | None:
        for rule in schedule.rules:
            module = type(rule.fault).__module__
            if not module.startswith("midstream."):
                return f"mitmproxy's process does not have the package of the fault {rule.fault.id}"
        return super().carries(schedule)


MEMBER = Mitmproxy()
