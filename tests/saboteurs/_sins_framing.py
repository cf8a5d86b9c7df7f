"""Sins about where a message ends and what its head says."""

from __future__ import annotations

import re
import ssl
import zlib
from collections.abc import Iterator

from _bases import ReadsOn, Saboteur, Trusting, caught_by
from _correct import READ, Broken, Refused, Reply, Wire


@caught_by({"cut-mid-body": "truncated", "one-wire-byte-missing": "truncated"})
class TakesAShortBodyForWhole(Trusting):
    """Ends a body at the end of the connection, whatever Content-Length said (python/cpython#115997)."""

    def exactly(self, wire: Wire, length: int) -> Iterator[bytes]:
        while length and (data := wire.read(min(READ, length))):
            length -= len(data)
            yield data

    def ended(self, reply: Reply, end: int | None) -> bool:
        return True


@caught_by({"cut-mid-body[at=50%;end=rst]": "truncated", "close-delimited-reset": "truncated"})
class TakesAResetForTheEnd(Trusting):
    """Treats a reset connection like one that was closed, and that like a body's end (wkentaro/gdown#477)."""

    def body(self, reply: Reply) -> Iterator[bytes]:
        try:
            yield from super().body(reply)
        except ConnectionError:
            reply.framed = True

    def ended(self, reply: Reply, end: int | None) -> bool:
        return True


@caught_by({"chunked-cut-mid-chunk": "truncated", "chunked-cut-in-framing": "truncated"})
class MissesTheLastChunk(Trusting):
    """Takes a chunked body without its last chunk for a whole one (node-fetch/node-fetch#1055)."""

    def chunks(self, wire: Wire) -> Iterator[bytes]:
        try:
            yield from super().chunks(wire)
        except (Broken, OSError):
            pass


@caught_by({"chunked-cut-mid-chunk": "truncated"})
class LosesTheLastBytesOfAChunk(Trusting):
    """Delivers whole chunks only, and calls it the end when the last one is not whole (httpie/cli#296)."""

    def chunks(self, wire: Wire) -> Iterator[bytes]:
        while size := self.chunk_size(wire.line()):
            chunk = b""
            while len(chunk) < size and (data := wire.read(size - len(chunk))):
                chunk += data
            if len(chunk) < size:
                return
            yield chunk
            wire.line()
        wire.line()


@caught_by({"close-delimited-cut": "truncated"})
class TakesAClosedConnectionForTheEnd(Trusting):
    """Calls a close-delimited body whole, with nothing to prove it (google-resumable-media-python PR 435)."""

    def proved(self) -> bool:
        self.pin.total = self.held
        return True


@caught_by({"close-delimited-cut-over-tls-unproved": "truncated"})
class TakesTheEndOfTlsForTheEnd(Trusting):
    """Takes a TLS connection that ended without close_notify for the end of a body (rustls ktls PR 74)."""

    def body(self, reply: Reply) -> Iterator[bytes]:
        try:
            yield from super().body(reply)
        except ssl.SSLEOFError:
            reply.framed = True


@caught_by({"head-cut": "truncated", "cut-by-wire-byte": "truncated"})
class TakesACutHeadForAWholeOne(Trusting):
    """Reads a head up to where the connection ended, and misses the fields that would have followed."""

    def read_head(self, wire: Wire) -> Reply:
        try:
            return super().read_head(wire)
        except (Broken, OSError):
            return Reply(200, [("Content-Length", "0")])


@caught_by({"stall-after-the-last-byte": "hang"})
class WaitsForTheConnectionToClose(ReadsOn):
    """Does not believe that a body is over before its connection is (P8)."""

    slow = ("stall-after-the-last-byte",)
    deadline = 2.0

    def behind(self, wire: Wire) -> None:
        wire.socket.settimeout(None)
        wire.read(1)


@caught_by({"end-after-the-last-byte[end=rst]": "needless_failure"})
class FailsOverAResetBehindTheBody(ReadsOn):
    """Has it all and fails, for the connection was reset behind the last one (aio-libs/aiohttp#13348)."""

    def behind(self, wire: Wire) -> None:
        try:
            wire.read(1)
        except ConnectionError as error:
            raise Refused("the connection was reset") from error


@caught_by({"interim-responses": "needless_failure"})
class TakesAnInterimResponseForFinal(Saboteur):
    """Knows 100 and takes every other 1xx for the answer."""

    def interim(self, status: int) -> bool:
        return status == 100


@caught_by({"field-names-in-any-case": "needless_failure"})
class ReadsFieldNamesCaseSensitively(Trusting):
    """Finds Content-Length only where it is written like this."""

    def reply(self, status: int, fields: list[tuple[str, str]]) -> Reply:
        known = re.compile(r"ETag|Content-MD5|([A-Z][a-z]+-?)+")
        return Reply(status, [(n, v) for n, v in fields if known.fullmatch(n)])


@caught_by({"busy-on-resume": "needless_failure"})
class LeavesTheRestOnTheConnection(Saboteur):
    """Reuses a connection with the unread rest of an error page on it, and reads that as the next head."""

    kept: Wire | None = None

    def settle(self, reply: Reply) -> None:
        self.kept = self.wire

    def connect(self, url: str) -> Wire:
        self.wire = self.wire or self.kept
        return super().connect(url)

    def close(self) -> None:
        if self.wire is not self.kept:
            super().close()

    def read_head(self, wire: Wire) -> Reply:
        try:
            return super().read_head(wire)
        except Broken as error:
            if wire is self.kept:
                raise Refused(str(error)) from error
            raise


@caught_by({"gzip-unasked": "foreign", "gzip-on-resume": "foreign", "cut-mid-body": "unsafe"})
class StoresCodedBytes(Trusting):
    """Invites gzip on every request and stores what comes as it comes (huggingface_hub PR 3778)."""

    trips = ("codings",)

    def acceptable(self) -> dict[str, str]:
        return {"Accept-Encoding": "gzip, deflate"}

    def encoded(self, reply: Reply) -> bool:
        return False

    def ended(self, reply: Reply, end: int | None) -> bool:
        return True if reply.get("content-encoding") else super().ended(reply, end)


@caught_by({"gzip-ends-in-mid-stream": "truncated"})
class AcceptsGzipWithoutItsTrailer(Trusting):
    """Decodes gzip and never looks whether the stream came to its end mark (pydantic-ai#7159)."""

    def encoded(self, reply: Reply) -> bool:
        return False

    def body(self, reply: Reply) -> Iterator[bytes]:
        if not reply.get("content-encoding"):
            yield from super().body(reply)
            return
        decoder = zlib.decompressobj(31)
        try:
            for data in super().body(reply):
                yield decoder.decompress(data)
        except (Broken, OSError):
            pass
        yield decoder.flush()
        reply.framed = True


@caught_by({"refused-once-on-resume": "truncated"})
class TakesNoContentForAnEmptyObject(Trusting):
    """Takes any 2xx for the object, so that a 204 is an empty one."""

    def judge(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        if reply.status == 204:
            self.pin.total = self.held
            return None, None
        return super().judge(reply, asked)


@caught_by({"not-modified-unasked": "truncated"})
class TakesNotModifiedForDone(Trusting):
    """Takes a 304 nobody asked for as the news that everything is there already."""

    def judge(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        if reply.status == 304:
            self.fresh(Reply(200, [("Content-Length", "0")]))
            return None, None
        return super().judge(reply, asked)
