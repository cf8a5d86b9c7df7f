"""A resumable HTTP client that keeps the rules, cut into small methods so that each sin is one override.

It fetches one object over plain sockets: no library under it forgives or hides anything. The partial lies
beside the destination as `.NAME.part-PID`, its journal (what it is of, and how much of it is proved) as
`.NAME.part-PID.log`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import random
import re
import shutil
import socket
import ssl
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

BUSY = frozenset({408, 425, 429, 498, 500, 502, 503, 504})
MOVED = frozenset({301, 302, 303, 307, 308})
DISK = frozenset({errno.EFBIG, errno.ENOSPC, errno.EDQUOT})
READ = 1 << 16


class Broken(Exception):
    """The answer or its body is no good; another request may bring a better one, after `after` seconds."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


class Refused(Exception):
    """No other request would help."""


class Wire:
    """One connection, read through a buffer."""

    def __init__(self, url: str, timeout: float | None) -> None:
        parts = urlsplit(url)
        self.origin = (
            parts.scheme,
            parts.hostname or "",
            parts.port or (443 if parts.scheme == "https" else 80),
        )
        self.fresh = True
        self.buffer = b""
        self.socket = socket.create_connection(self.origin[1:], timeout)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
            # An end without close_notify is an error: anybody can cut a connection (RFC 9112 section 9.8).
            self.socket = context.wrap_socket(
                self.socket, server_hostname=self.origin[1], suppress_ragged_eofs=False
            )

    def read(self, most: int) -> bytes:
        """What is there next, b"" at the end; raises OSError for a reset or silence."""
        if not self.buffer:
            return self.socket.recv(most)
        data, self.buffer = self.buffer[:most], self.buffer[most:]
        return data

    def line(self) -> bytes:
        """A line without its end; raises Broken when there is no whole one."""
        while b"\n" not in self.buffer:
            more = self.socket.recv(READ)
            if not more or len(self.buffer) > 1 << 18:
                raise Broken("the connection ended inside a head")
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.removesuffix(b"\r")


@dataclass
class Reply:
    status: int
    fields: list[tuple[str, str]]
    framed: bool = False  # its body has ended, and its framing says so

    def get(self, name: str) -> str | None:
        return next((v for n, v in self.fields if n.lower() == name.lower()), None)

    @property
    def span(self) -> tuple[int, int, int | None] | None:
        """First, last and total of Content-Range."""
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", (self.get("content-range") or "").strip())
        return (int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])) if found else None

    @property
    def length(self) -> int | None:
        text = self.get("content-length")
        if text is not None and not re.fullmatch(r"\d{1,18}", text.strip()):
            raise Broken(f"Content-Length {text!r}")
        return int(text) if text is not None else None

    @property
    def media(self) -> str:
        return (self.get("content-type") or "").partition(";")[0].strip().lower()


@dataclass
class Pin:
    """The version of the object that the partial is of."""

    etag: str | None = None
    total: int | None = None
    media: str = ""
    digests: dict[str, str] = field(default_factory=dict)


class Client:
    attempts = 6  # without progress
    base, cap = 0.005, 0.1  # seconds
    longest_wait = 5.0
    silence = 0.6  # never more than the job allows
    redirects = 10
    fresh_starts = 1  # after a digest that does not agree

    def __init__(self, job: Any) -> None:
        self.dest, self.url = Path(job.dest), job.url
        self.headers = dict(job.headers)
        self.timeout: float | None = min(job.idle_timeout, self.silence)
        self.partial = self.dest.with_name(f".{self.dest.name}.part-{os.getpid()}")
        self.log = Path(f"{self.partial}.log")
        self.wire: Wire | None = None
        self.pin: Pin | None = None
        self.earlier: Pin | None = None  # the last version seen, even if nothing of it is held
        self.held = self.best = self.crc = 0
        self.failures = self.odd = 0
        self.ranged, self.changes = True, 0
        self.hashes = self.new_hashes()

    # -- the loop

    def run(self) -> None:
        """Fetch the object to the final name, or raise."""
        self.adopt()
        try:
            with self.partial.open("r+b" if self.partial.exists() else "w+b") as self.file:
                self.fetch()
                self.publish()
        except BaseException:
            self.close()
            self.keep_or_discard()
            raise
        self.close()

    def fetch(self) -> None:
        """Until the object is whole and proved."""
        while True:
            try:
                whole = self.is_whole() or self.attempt()
            except (Broken, OSError) as error:
                if isinstance(error, OSError) and error.errno in DISK:
                    raise
                self.close()
                self.failed(error)
                continue
            if whole and self.verify():
                return
            self.progress()

    def failed(self, error: Exception) -> None:
        """Count and wait; what cannot be continued is dropped."""
        self.progress()
        self.failures += 1
        if self.failures >= self.attempts:
            raise Refused(f"gave up at byte {self.held}: {error}")
        if not self.continuable():
            self.restart()
        self.pause(getattr(error, "after", 0.0))

    def progress(self) -> None:
        """More is held than ever before: the attempts start anew."""
        if self.held > self.best:
            self.best = self.held
            self.failures = self.odd = 0

    def pause(self, after: float) -> None:
        if after > self.longest_wait:
            raise Refused(f"asked to come back in {after:.0f} s")
        time.sleep(max(after, min(self.cap, self.base * 2**self.failures) * random.uniform(0.5, 1)))

    def attempt(self) -> bool:
        """One request and what its answer brings; whether the object is whole now."""
        asked = self.offset()
        reply = self.ask("GET", self.conditions(asked))
        skip, end = self.judge(reply, asked)
        if skip is None:
            return True
        for data in self.body(reply):
            fresh, skip = data[skip:], max(0, skip - len(data))
            if fresh and end is not None and self.held + len(fresh) > end:
                self.place(fresh[: end - self.held])
                raise Broken("more bytes than announced")
            if fresh:
                self.place(fresh)
            if self.enough(end):
                break
        return self.ended(reply, end)

    # -- asking

    def offset(self) -> int | None:
        """Where to go on; None: everything is wanted."""
        return self.held if self.held and self.ranged and self.continuable() else None

    def continuable(self) -> bool:
        """RFC 9110 section 15.3.7.3: only a strong validator binds ranges of several answers."""
        return self.pin is not None and self.pin.etag is not None

    def conditions(self, asked: int | None) -> dict[str, str]:
        if asked is None or not self.pin:
            return {}
        return {"Range": f"bytes={asked}-", **self.binding(self.pin)}

    def binding(self, pin: Pin) -> dict[str, str]:
        return {"If-Range": pin.etag} if pin.etag else {}

    def credentials(self, url: str) -> dict[str, str]:
        """RFC 9110 section 15.4: they are for the origin of the job, and for no other."""
        same = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return self.headers if same else {}

    def renew(self) -> bool:
        """Get new credentials; whether there are any."""
        return False

    def ask(self, method: str, fields: dict[str, str]) -> Reply:
        """The final answer, redirects followed with the same fields."""
        url = self.url
        for _ in range(self.redirects):
            reply = self.exchange(method, url, fields)
            location = reply.get("location")
            if reply.status not in MOVED or not location:
                return reply
            self.settle(reply)
            url = urljoin(url, location)
        raise Refused("too many redirects")

    def exchange(self, method: str, url: str, fields: dict[str, str]) -> Reply:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        all_fields = {
            "Host": parts.netloc.rpartition("@")[2],
            **self.acceptable(),
            **fields,
            **self.credentials(url),
        }
        head = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in all_fields.items())]
        wire = self.connect(url)
        wire.socket.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        return self.read_head(wire)

    def acceptable(self) -> dict[str, str]:
        return {"Accept-Encoding": "identity"}

    def connect(self, url: str) -> Wire:
        if self.wire and self.wire.origin[:2] != (urlsplit(url).scheme, urlsplit(url).hostname):
            self.close()
        if not self.wire:
            self.wire = Wire(url, self.timeout)
        return self.wire

    def close(self) -> None:
        if self.wire:
            self.wire.socket.close()
            self.wire = None

    def settle(self, reply: Reply) -> None:
        """Be done with an answer whose body is not wanted."""
        self.close()

    # -- reading

    def read_head(self, wire: Wire) -> Reply:
        while True:
            line = wire.line()
            found = re.fullmatch(rb"HTTP/1\.[01] (\d{3})(?: .*)?", line)
            if not found:
                raise Broken(f"no status line: {line[:40]!r}")
            fields: list[tuple[str, str]] = []
            while line := wire.line():
                if line[:1] in b" \t" and fields:  # folded: RFC 9112 section 5.2
                    fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.decode('latin-1').strip()}".strip())
                    continue
                name, _, value = line.decode("latin-1").partition(":")
                fields.append((name, value.strip()))
            if not self.interim(int(found[1])):
                return self.reply(int(found[1]), fields)

    def interim(self, status: int) -> bool:
        return 100 <= status < 200

    def reply(self, status: int, fields: list[tuple[str, str]]) -> Reply:
        return Reply(status, fields)

    def body(self, reply: Reply) -> Iterator[bytes]:
        """The payload as it comes; raises Broken when its framing says that it is not whole."""
        assert self.wire
        if "chunked" in (reply.get("transfer-encoding") or "").lower():
            yield from self.chunks(self.wire)
        elif reply.length is not None:
            yield from self.exactly(self.wire, reply.length)
        else:
            while data := self.wire.read(READ):
                yield data
            self.close()
            return
        reply.framed = True
        if (reply.get("connection") or "").lower() == "close":
            self.close()

    def exactly(self, wire: Wire, length: int) -> Iterator[bytes]:
        while length:
            data = wire.read(min(READ, length))
            if not data:
                raise Broken(f"the body ended {length} bytes early")
            length -= len(data)
            yield data

    def chunks(self, wire: Wire) -> Iterator[bytes]:
        while size := self.chunk_size(wire.line()):
            yield from self.exactly(wire, size)
            if wire.line():
                raise Broken("a chunk is longer than its size")
        while wire.line():
            pass

    def chunk_size(self, line: bytes) -> int:
        found = re.fullmatch(rb"([0-9a-fA-F]{1,12})[ \t]*(?:;.*)?", line)
        if not found:
            raise Broken(f"no chunk size: {line[:20]!r}")
        return int(found[1], 16)

    # -- judging

    def judge(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        """How many bytes of the body to skip (None: nothing is missing), and where in the object it ends."""
        if reply.status == 206:
            return 0, self.on_206(reply, asked)
        if reply.status == 200:
            return self.on_200(reply, asked)
        self.settle(reply)
        if reply.status == 416 and asked is not None:
            return self.on_416(reply)
        if reply.status == 412 and asked is not None:
            return self.on_412(reply)
        if reply.status in BUSY:
            raise Broken(f"status {reply.status}", self.retry_after(reply))
        if reply.status in (401, 403, 410) and self.renew():
            raise Broken(f"status {reply.status}, credentials renewed")
        raise Refused(f"status {reply.status}")

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        """RFC 9110 section 15.3.7: inspect all of it before joining a byte."""
        span = reply.span
        if asked is None or not self.pin:
            self.unusable("206 to a request without Range")
        if self.encoded(reply) or reply.media == "multipart/byteranges" or span is None:
            self.unusable(f"206 with Content-Range {reply.get('content-range')!r}")
        self.check_version(reply)
        first, last, total = span
        if first != asked:
            self.unusable(f"206 from byte {first}, not {asked}")
        self.check_span(reply, first, last, total)
        self.pin.total = self.pin.total or total
        return last + 1

    def check_version(self, reply: Reply) -> None:
        if reply.get("etag") != self.pin.etag:
            self.changed("206 of another version")

    def check_span(self, reply: Reply, first: int, last: int, total: int | None) -> None:
        if total is not None and self.pin.total is not None and total != self.pin.total:
            self.unusable(f"206 of {total} bytes, not {self.pin.total}")
        if last < first or last >= (total or self.pin.total or last + 1):
            self.unusable(f"206 up to byte {last}")
        if reply.length not in (None, last + 1 - first):
            self.unusable("206 of another length than its range")

    def on_200(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        """A whole representation: ours, of which the prefix is skipped, or a new one."""
        if "content-range" in {n.lower() for n, _ in reply.fields}:
            self.unusable("200 with Content-Range")
        if self.encoded(reply):
            self.unusable(f"content-coded: {reply.get('content-encoding')}")
        if self.is_page(reply):
            self.unusable(f"200 of type {reply.media}")
        if self.held and self.same(reply):
            return self.held, self.pin.total
        return self.fresh(reply)

    def same(self, reply: Reply) -> bool:
        return (
            self.strong(reply) is not None
            and self.strong(reply) == self.pin.etag
            and (reply.length in (None, self.pin.total))
        )

    def is_page(self, reply: Reply) -> bool:
        """Whether this is a page about the object: of another type, and without the validator it had."""
        was = self.pin or self.earlier
        if was is None or was.media == reply.media:
            return False
        return reply.media == "text/html" or (was.etag is not None and reply.get("etag") is None)

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        if self.pin and self.held and self.strong(reply) != self.pin.etag:
            self.count_change("another version")
        self.restart()
        self.pin = self.earlier = Pin(self.strong(reply), reply.length, reply.media, self.digests(reply))
        self.record()
        return 0, reply.length

    def strong(self, reply: Reply) -> str | None:
        etag = reply.get("etag")
        return etag if etag and re.fullmatch(r'"[^"]*"', etag) else None

    def encoded(self, reply: Reply) -> bool:
        return (reply.get("content-encoding") or "identity").lower() != "identity"

    def on_416(self, reply: Reply) -> tuple[int | None, int | None]:
        """RFC 9110 section 15.5.17: all there, or one clean fetch of the whole."""
        found = re.fullmatch(r"bytes \*/(\d+)", reply.get("content-range") or "")
        other = reply.get("etag") not in (None, self.pin.etag)
        if found and int(found[1]) == self.held and self.pin.total in (None, self.held) and not other:
            self.pin.total = self.held
            return None, None
        self.ranged = False
        self.restart()
        raise Broken("416 to a range that should exist")

    def on_412(self, reply: Reply) -> tuple[int | None, int | None]:
        """RFC 9110 section 15.5.13: another object; the same condition is not sent again."""
        return self.changed("412")

    def unusable(self, why: str) -> Any:
        """The second in a row is how this server is: then without ranges."""
        self.odd += 1
        self.ranged = self.ranged and self.odd < 2
        raise Broken(why)

    def changed(self, why: str) -> Any:
        self.count_change(why)
        self.restart()
        self.best = 0
        raise Broken(why)

    def count_change(self, why: str) -> None:
        self.changes += 1
        if self.changes > 3:
            raise Refused(f"the object does not stay the same: {why}")

    def retry_after(self, reply: Reply) -> float:
        text = reply.get("retry-after") or "0"
        if text.isdigit():
            return float(text)
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return 0.0

    # -- placing

    def place(self, data: bytes) -> None:
        """Bytes go where they belong, and only what was written counts."""
        self.file.seek(self.held)
        self.file.write(data)
        self.file.flush()
        self.held += len(data)
        self.hash(data)
        self.crc = zlib.crc32(data, self.crc)
        self.mark()

    def new_hashes(self) -> dict[str, Any]:
        return {"sha-256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}

    def hash(self, data: bytes) -> None:
        for one in self.hashes.values():
            one.update(data)

    def restart(self) -> None:
        """Drop what is held, and everything that goes with it."""
        self.log.unlink(missing_ok=True)
        self.file.truncate(0)
        self.held = self.crc = 0
        self.hashes = self.new_hashes()
        self.pin = None

    # -- proving

    def is_whole(self) -> bool:
        """Nothing is asked for behind the end: RFC 9110 section 14.1.1."""
        return self.pin is not None and self.pin.total == self.held

    def enough(self, end: int | None) -> bool:
        """RFC 9112 section 6.3: complete with its last byte, whatever the connection does then."""
        return end is not None and self.held == end

    def ended(self, reply: Reply, end: int | None) -> bool:
        """A body has ended; whether the object is whole with it."""
        if not reply.framed:
            self.close()
        if end is not None:
            if self.held != end:
                raise Broken(f"the body ended at byte {self.held}, not {end}")
        elif reply.framed:
            self.pin.total = self.held
        elif not self.proved():
            raise Broken(f"nothing proves that byte {self.held} is the end")
        return self.is_whole()

    def proved(self) -> bool:
        """RFC 9112 section 8: the end of a connection is no proof, a digest or another size is."""
        if self.pin.digests:
            if self.right() is False:
                return False
            self.pin.total = self.held
        else:
            self.pin.total = self.size()
        if self.pin.total is None and not self.continuable():
            raise Refused("no size, no digest, no validator: nothing can prove the end")
        return self.pin.total is not None

    def size(self) -> int | None:
        """What HEAD says, of this version."""
        try:
            reply = self.ask("HEAD", {})
            if reply.status == 200 and self.strong(reply) == self.pin.etag and not self.encoded(reply):
                return reply.length
        except (Broken, OSError, Refused):
            pass
        finally:
            self.close()
        return None

    def digests(self, reply: Reply) -> dict[str, str]:
        """Digests of the whole object: RFC 9530 section 3, and Content-MD5 of a whole body."""
        found = re.search(r"sha-256=:([^:]+):", reply.get("repr-digest") or "")
        wanted = {"sha-256": found[1] if found else None, "md5": reply.get("content-md5")}
        return {name: value for name, value in wanted.items() if value}

    def right(self) -> bool | None:
        """Whether the digests agree; None when there is none."""
        assert self.pin
        for name, value in self.pin.digests.items():
            if base64.b64encode(self.hashes[name].digest()).decode() != value:
                return False
        return True if self.pin.digests else None

    def verify(self) -> bool:
        """The last word before publishing; a mismatch is worth one fresh start."""
        right = self.right()
        if right is None:
            size = self.size()
            right = size in (None, self.held)
        if right:
            return True
        self.fresh_starts -= 1
        if self.fresh_starts < 0:
            raise Refused("the digest or size of the object is another one")
        self.close()
        self.restart()
        self.best = 0
        return False

    # -- publishing

    def publish(self) -> None:
        """The final name holds the whole object or nothing."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if os.fstat(self.file.fileno()).st_size != self.held:
            raise Refused("the partial was altered by somebody else")
        if self.dest.is_fifo():
            with self.dest.open("wb") as pipe:
                self.file.seek(0)
                shutil.copyfileobj(self.file, pipe)
            self.partial.unlink()
        else:
            self.partial.replace(self.dest)
        self.log.unlink(missing_ok=True)

    def keep_or_discard(self) -> None:
        """A failure keeps what can be continued."""
        if not (self.held and self.continuable()):
            self.log.unlink(missing_ok=True)
            self.partial.unlink(missing_ok=True)

    # -- across processes

    def record(self) -> None:
        """Say in the journal what the partial is of."""
        if self.pin and self.continuable():
            self.log.write_text(json.dumps({"url": self.identity(), **vars(self.pin)}) + "\n")

    def identity(self) -> str:
        return urlsplit(self.url).path

    def mark(self) -> None:
        """Say in the journal how much of it is there, and its sum."""
        if self.log.exists():
            with self.log.open("a") as log:
                log.write(f"{self.held} {self.crc}\n")

    def adopt(self) -> None:
        """Take over what processes that are gone have left: the best of it; the others are removed."""
        for log in sorted(self.dest.parent.glob(f".{self.dest.name}.part-*.log")):
            owner = int(log.suffixes[-2].removeprefix(".part-"))
            if owner != os.getpid() and self.alive(owner):
                continue
            data = log.with_suffix("")
            try:
                log.rename(self.log)  # of two that try, one succeeds
                data.rename(self.partial)
            except FileNotFoundError:
                pass
            if self.load():
                break
            self.log.unlink(missing_ok=True)
            self.partial.unlink(missing_ok=True)
        for data in self.dest.parent.glob(f".{self.dest.name}.part-*"):
            owner = data.suffixes[-1].removeprefix(".part-")
            if owner.isdigit() and data != self.partial and not self.alive(int(owner)):
                data.unlink(missing_ok=True)

    def alive(self, pid: int) -> bool:
        return Path(f"/proc/{pid}").exists()

    def load(self) -> bool:
        """Believe of a partial what its journal proves."""
        try:
            head, *marks = self.log.read_text().splitlines()
            known = json.loads(head)
            if known.pop("url") != self.identity():
                return False
            pin = Pin(**known)
            with self.partial.open("rb") as file:
                for mark in marks:
                    if not re.fullmatch(r"\d+ \d+", mark):
                        break  # torn by a kill
                    end, crc = map(int, mark.split())
                    data = file.read(max(0, end - self.held))
                    if len(data) != end - self.held or zlib.crc32(data, self.crc) != crc:
                        break
                    self.held, self.crc = end, crc
                    self.hash(data)
        except (OSError, ValueError, TypeError):
            self.held, self.crc, self.hashes = 0, 0, self.new_hashes()
            return False
        if not self.held or (pin.total is not None and self.held > pin.total):
            return False
        os.truncate(self.partial, self.held)
        self.pin = self.earlier = pin
        return True


def fetch(job: Any) -> None:
    Client(job).run()
