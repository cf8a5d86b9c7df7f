"""One connection from downstream: requests in, answers out, and a reset for what cannot be finished."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from reknit import stores
from reknit._body import About, Body, head
from reknit._errors import CallerError, Changed, Exhausted, Refused, ReknitError, StoreFault
from reknit._options import Options
from reknit._ranges import WHOLE, Slice
from reknit.gateway._head import Fields, fields
from reknit.gateway._judge import Decision, conditional, judge, wanted_range
from reknit.gateway._target import BadTarget, key_of

IDLE = 60.0  # between requests; nginx's keepalive_timeout is 75 s, Apache's 5
STALLED = 600.0  # a reader that takes nothing for so long is gone
_ROUNDS = 3  # an object that changes between looking and fetching is looked at again

_AT_ONCE = struct.pack("ii", 1, 0)
_ORDERLY = struct.pack("ii", 0, 0)


class Serving(Protocol):
    """What a handler wants to know of its server."""

    options: Options

    def locate(self, key: str) -> str:
        """The URL of the object called `key`. Raises BadTarget."""

    def log(self, line: str) -> None:
        """Tell of a request."""

    def is_meant(self, host: str) -> bool:
        """Whether a request whose Host field says so is for this server."""


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    disable_nagle_algorithm = True
    allowed = "GET, HEAD"

    def do_GET(self) -> None:
        self._guarded(self._fetch, self.path)

    def do_HEAD(self) -> None:
        self._guarded(self._fetch, self.path)

    # -- requests ------------------------------------------------------------------------------------------

    def parse_request(self) -> bool:
        """Refuse what has no head to answer in, or two meanings (RFC 9112 §3.2, §6.1, §6.3)."""
        if not super().parse_request():
            return False
        if self.request_version == "HTTP/0.9":
            self.send_error(400)
            return False
        hosts = self.headers.get_all("host", [])
        lengths = self.headers.get_all("content-length", [])
        coded = "transfer-encoding" in self.headers
        odd_host = len(hosts) > 1 or (not hosts and self.request_version != "HTTP/1.0")
        if odd_host or len(lengths) > 1 or (coded and lengths) or not all(n.isdecimal() for n in lengths):
            self.send_error(400)
            return False
        if hosts and not self._serving.is_meant(hosts[0]):
            self.send_error(421)
            return False
        return True

    def _has_content(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0").strip("0") != ""

    def _guarded(self, answer: Callable[[str], None], target: str) -> None:
        """Carry out a request about an object (no target: none); every error before the head is an answer."""
        self._asked = {name.lower(): ", ".join(self.headers.get_all(name, [])) for name in self.headers}
        try:
            answer(self._serving.locate(key_of(target)) if target else "")
        except BadTarget as error:
            self._say(error.status, str(error))
        except ReknitError as error:
            status, text = refusal(error)
            self._say(status, text, why=str(error))

    def _fetch(self, url: str) -> None:
        if self._has_content():
            return self._say(400, f"a {self.command} has no content here")
        asked = self._asked
        store = stores.open_store(url, self._serving.options)
        wanted = wanted_range(asked) if self.command == "GET" else None
        part = wanted.guess() if wanted else WHOLE
        if part is None or self.command == "HEAD" or conditional(asked):
            about = self._about(store)
            decision = judge(self.command, asked, about[0])
            if self.command == "HEAD" or decision.part is None:
                return self._tell(decision, about)
            part = decision.part
        for _ in range(_ROUNDS):
            with closing(Body(store, self._serving.options, part)) as body:
                try:
                    about = body.open()
                except Refused as error:
                    if error.status != 416:
                        raise
                    about = self._about(store)
                decision = judge(self.command, asked, about[0])
                if decision.part is None:
                    return self._tell(decision, about)
                if _covers(part, decision.part, about):
                    return self._deliver(decision, about, body)
                part = decision.part
        raise Changed("the object changed each time it was looked at")

    def _about(self, store: stores.Store) -> About:
        try:
            return head(store, self._serving.options)
        except Refused as error:
            if error.status not in (405, 501):
                raise
        with closing(Body(store, self._serving.options)) as body:  # one that knows no HEAD
            return body.open()

    # -- answers -------------------------------------------------------------------------------------------

    def _tell(self, decision: Decision, about: About) -> None:
        """An answer that is a head alone."""
        self._begin(decision.status, fields(decision, *about))
        self._log(decision.status)

    def _begin(self, status: int, found: Fields) -> None:
        self.send_response(status)
        for name, value in found:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _deliver(self, decision: Decision, about: About, body: Body) -> None:
        assert decision.part is not None
        size = decision.part.size(about[0].total)
        chunked = size is None and self.request_version != "HTTP/1.0"
        if size is None and not chunked:
            self.close_connection = True  # the end of the connection is that of the body (RFC 9112 §6.3)
        # Whatever becomes of us from here on, SIGKILL included, the kernel resets the connection instead of
        # ending it as if the body were whole.
        self._ending(_AT_ONCE)
        framing = [("Transfer-Encoding", "chunked")] if chunked else []
        sent, why = 0, "the client went away"
        try:
            self.connection.settimeout(STALLED)
            self._begin(decision.status, fields(decision, *about) + framing)
            for block in body.blocks(size):
                self._write(block, chunked)
                sent += len(block)
            if chunked:
                self.wfile.write(b"0\r\n\r\n")
            self._ending(_ORDERLY)
            self.connection.settimeout(IDLE)
            self._log(decision.status, f"{sent} bytes, {body.report().resumes} resumed")
            return
        except ReknitError as error:
            why = str(error)
        except OSError:
            pass
        finally:
            self.close_connection = self.close_connection or self._broken
        self._log(decision.status, f"reset after {sent} bytes: {why}")

    def _write(self, block: memoryview, chunked: bool) -> None:
        if chunked:
            self.wfile.write(b"%x\r\n" % len(block))
        self.wfile.write(block)
        if chunked:
            self.wfile.write(b"\r\n")

    def _ending(self, how: bytes) -> None:
        self._broken = how == _AT_ONCE
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)

    _broken = False

    def _say(self, status: int, text: str, *more: tuple[str, str], why: str = "") -> None:
        """An answer that is not the object, in a line of text; `why` is for the log alone."""
        if self._has_content():
            self.close_connection = True  # its content is still to come, and is not read
        content = f"{text}\n".encode()
        found = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))]
        self._begin(status, [*found, *more, *([("Allow", self.allowed)] if status == 405 else [])])
        if self.command != "HEAD":
            self.wfile.write(content)
        self._log(status, why or text)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What http.server finds wrong, before a method is called."""
        if not hasattr(self, "headers"):
            self.headers = self.MessageClass()
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"  # or there would be no head
        self.close_connection = True
        status = 405 if code == 501 else code
        self._say(status, HTTPStatus(status).phrase)

    # -- the rest ------------------------------------------------------------------------------------------

    @property
    def _serving(self) -> Serving:
        return self.server  # type: ignore[return-value]

    def _log(self, status: int, more: str = "") -> None:
        path = getattr(self, "path", "").partition("?")[0]  # there is none in a line that does not read
        path = "".join(c if c.isprintable() else "?" for c in path[:1024])
        self._serving.log(f"{self.command or '?'} {path} {status}{f': {more}' if more else ''}")

    def version_string(self) -> str:
        """Who we are; not which Python."""
        return "reknit"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are logged when it is known what became of them."""


def refusal(error: ReknitError) -> tuple[int, str]:
    """The status for an error of the store, and words without anything of how it is reached."""
    match error:
        case Refused(status=404 | 410):
            return error.status, "there is no such object"
        case Refused():
            return 502, f"the store answers {error.status}"
        case Exhausted(cause=StoreFault(kind="timeout") | TimeoutError()):
            return 504, "the store does not answer"
        case CallerError():
            return 400, "there can be no such object"
    return 502, "the store gives no good answer"


def _covers(opened: Slice, wanted: Slice, about: About) -> bool:
    total = about[0].total
    return opened.first == wanted.first and opened.size(total) == wanted.size(total)
