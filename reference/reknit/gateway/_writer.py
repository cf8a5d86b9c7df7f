"""The handler of a gateway that may be written through: PUT, and the IETF's resumable uploads.

The content is spooled here, so that a client's drop costs what was on its way and no more. Once it is whole,
reknit's own upload brings it to the store, and only then is the client told: an answer is the store's.
"""

# ruff: noqa: N802  # http.server's names

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from reknit import stores
from reknit._body import About, head
from reknit._errors import Refused
from reknit._options import Options
from reknit._upload import upload as store_upload
from reknit.gateway._handler import Handler
from reknit.gateway._intake import INTEROP, MEDIA_TYPE, Append, Refusal, append, creation, interim, said
from reknit.gateway._judge import writable
from reknit.gateway._spool import TakenOver, Upload, Uploads
from reknit.gateway._target import BadTarget, key_of

PLACE = "/.uploads/"
_BLOCK = 1 << 18
_LINE = 4096

Fields = list[tuple[str, str]]


class Cut(Exception):
    """The client went away, or its framing is wrong, before the content was whole."""


class Taking(Protocol):
    """What a writing handler wants of its server besides."""

    options: Options
    uploads: Uploads

    def locate(self, key: str) -> str:
        """See Serving."""


class Writer(Handler):
    """GET, HEAD, PUT, and the methods of upload resources."""

    allowed = "GET, HEAD, PUT, OPTIONS"
    _stored = ""

    def do_OPTIONS(self) -> None:
        self._guarded_by(lambda: self._reply(204, [("Allow", self.allowed), ("Accept-Patch", MEDIA_TYPE)]))

    def do_PUT(self) -> None:
        self._guarded_by(self._put)

    def do_HEAD(self) -> None:
        if self.path.startswith(PLACE):
            self._guarded_by(lambda: self._offset(self._found()))
        else:
            super().do_HEAD()

    def do_PATCH(self) -> None:
        self._guarded_by(lambda: self._patch(self._found()))

    def do_DELETE(self) -> None:
        self._guarded_by(lambda: self._cancel(self._found()))

    # -- requests ------------------------------------------------------------------------------------------

    def _guarded_by(self, answer: Callable[[], None]) -> None:
        """Carry out a request; one whose content does not come to its end gets no answer."""
        try:
            self._guarded(lambda _: answer(), "")
        except (Cut, TakenOver) as error:
            self.close_connection = True
            self._log(0, f"no answer: {error or 'taken over by a later request'}")

    def _found(self) -> Upload:
        found = self._taking.uploads.get(self.path.removeprefix(PLACE)) if self._is_upload else None
        if found is None:
            raise BadTarget(404 if self._is_upload else 405, "there is no such upload")
        return found

    def _put(self) -> None:
        key = key_of(self.path)
        if self._is_upload or "content-range" in self._asked:
            return self._say(400, "an object is put whole")
        asked = creation(self._asked, self._length())
        if isinstance(asked, Refusal):
            return self._say(asked.status, asked.why)
        held = Upload(key, self._asked, asked.length)
        where: Fields = []
        if not asked.completes or (
            "upload-complete" in self._asked and interim(self._asked, self.request_version)
        ):
            where = [("Location", PLACE + self._taking.uploads.add(held))]
        if where and interim(self._asked, self.request_version):
            self.send_response_only(104, "Upload Resumption Supported")
            for name, value in (*where, ("Upload-Draft-Interop-Version", INTEROP)):
                self.send_header(name, value)
            self.end_headers()
        try:
            self._receive(held, asked, (201, where))
        finally:
            if not where:
                held.drop()

    def _patch(self, held: Upload) -> None:
        asked = append(self._asked, self._length(), held.offset, held.length, stored=held.answer is not None)
        if isinstance(asked, Refusal):
            state = [said(held.answer is not None), ("Upload-Offset", str(held.offset))]
            return self._say(asked.status, asked.why, *state)
        held.length = asked.length
        return self._receive(held, asked, (204, []))

    def _offset(self, held: Upload) -> None:
        held.take_over()
        length = [("Upload-Length", str(held.length))] if held.length is not None else []
        state = [said(held.answer is not None), ("Upload-Offset", str(held.offset)), *length]
        self._reply(204, [*state, ("Cache-Control", "no-store")])

    def _cancel(self, held: Upload) -> None:
        self._taking.uploads.remove(self.path.removeprefix(PLACE))
        self._reply(204, [])

    # -- content -------------------------------------------------------------------------------------------

    def _receive(self, held: Upload, asked: Append, so_far: tuple[int, Fields]) -> None:
        turn, self._stored = held.take_over(), ""
        try:
            for block in self._content():
                if asked.length is not None and held.offset + len(block) > asked.length:
                    raise Cut("more content than was announced")
                held.write(turn, block)
        except OSError as error:
            if not error.errno or isinstance(error, (ConnectionError, TimeoutError)):
                raise Cut(str(error) or "silence") from error
            self.close_connection = True
            return self._say(507, "there is no room for it here")
        if not asked.completes:
            return self._reply(so_far[0], [*so_far[1], said(False), ("Upload-Offset", str(held.offset))])
        with held.lock:  # a second final request waits, and is told the same
            if turn != held.turn:
                raise TakenOver
            if held.answer is None:
                status, found = self._store(held)
                if status >= 300:
                    return self._say(status, found[0][1])
                held.answer = status, found
        status, found = held.answer
        more = [said(True)] if "upload-complete" in self._asked else []
        return self._reply(status, [*found, *more], self._stored)

    def _store(self, held: Upload) -> tuple[int, Fields]:
        """Bring it to the store; the status, and the fields or a reason."""
        resumed = "upload-complete" in held.conditions
        if wrong := held.wrong(part=resumed):
            return 400, [("", f"the content does not have the {wrong.algorithm} of its {wrong.source}")]
        url = self._taking.locate(held.key)
        options = replace(self._taking.options, keep=False)
        there = self._look(url)
        if not writable(held.conditions, there[0] if there else None):
            return 412, [("", "the condition does not hold")]
        held.file.seek(0)
        report = store_upload(held.file, url, options=options)
        self._stored = f"{report.bytes} bytes, {report.resent} sent again"
        now = self._look(url)
        tag = now[0].etag or now[0].weak if now else ""
        return (204 if there else 201), [("ETag", tag)] if tag else []

    def _look(self, url: str) -> About | None:
        try:
            return head(stores.open_store(url, self._taking.options), self._taking.options)
        except Refused as error:
            if error.status in (404, 410):
                return None
            raise

    def _length(self) -> int | None:
        """Of the content, None when it comes in chunks. Raises BadTarget for another or no framing."""
        if "transfer-encoding" in self._asked:
            if self._asked["transfer-encoding"].strip().lower() != "chunked":
                raise BadTarget(501, "content in chunks, or with a length")
            return None
        if "content-length" not in self._asked:
            if self.command == "PUT":
                raise BadTarget(411, "how long is it?")
            return 0
        return int(self._asked["content-length"])

    def _content(self) -> Iterator[bytes]:
        length = self._length()
        if length is not None:
            yield from self._exactly(length)
            return
        while size := self._chunk_size():
            yield from self._exactly(size)
            if self.rfile.readline(_LINE) != b"\r\n":
                raise Cut("a chunk that is longer than it says")
        while (line := self.rfile.readline(_LINE)) != b"\r\n":  # trailers say nothing to us
            if not line.endswith(b"\n"):
                raise Cut("it ended in its trailers")

    def _chunk_size(self) -> int:
        line = self.rfile.readline(_LINE)
        text = line.partition(b";")[0].strip()
        if not line.endswith(b"\n") or not text or text.strip(b"0123456789abcdefABCDEF"):
            raise Cut("it ended in its chunks")
        return int(text, 16)

    def _exactly(self, left: int) -> Iterator[bytes]:
        while left:
            data = self.rfile.read1(min(left, _BLOCK))
            if not data:
                raise Cut(f"it ended {left} bytes early")
            left -= len(data)
            yield data

    # -- answers -------------------------------------------------------------------------------------------

    def _reply(self, status: int, found: Fields, done: str = "") -> None:
        length = [] if status == 204 else [("Content-Length", "0")]
        self._begin(status, [*found, *length])
        self._log(status, done)

    @property
    def _taking(self) -> Taking:
        return self.server  # type: ignore[return-value]

    @property
    def _is_upload(self) -> bool:
        return self.path.startswith(PLACE)
