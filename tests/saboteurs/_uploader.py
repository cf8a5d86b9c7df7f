"""A correct uploader in a page or two: S3 in parts, Swift in segments, tus; raw requests, one a connection.

It takes the source into memory, looks whether that is all of it, and sends what it then holds. Saboteurs
override one step each.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


# For moto, which wants to see a signature and looks at none.
UNCHECKED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/b/c/s3/aws4_request, SignedHeaders=host, Signature=0"
}


class Reply(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes


class Lost(Exception):
    """Nobody knows what became of the request."""


class Failed(Exception):
    """The upload cannot be done."""


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


class Uploader:
    """One upload."""

    attempts = 5
    timeout: float | None = 3.0

    def __init__(self, job: Any) -> None:
        self.job = job
        self.data = b""
        self.sent_once = False
        self.token = ""
        self.record = Path(job.dest).parent / f"upload.{os.getpid()}"

    def run(self) -> None:
        self.tidy()
        try:
            self.data = self.source()
            self.send()
        except BaseException:
            self.give_up()
            raise
        finally:
            self.record.unlink(missing_ok=True)

    # --- the source

    def source(self) -> bytes:
        """All of it, or Failed."""
        path = self.job.source
        before = path.stat()
        data: bytes = path.read_bytes()
        after = path.stat()
        if self.job.size != len(data) and (path.is_fifo() or not self.job.again):
            raise Failed(f"the source has {len(data)} bytes, not {self.job.size}")
        if not path.is_fifo() and (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, len(data)):
            raise Failed("the source changes")
        return data

    def body(self, first: int, length: int, attempt: int) -> bytes:
        """What a request carries, the same at each attempt."""
        return self.data[first : first + length]

    # --- requests

    def ask(self, method: str, url: str, fields: dict[str, str] | None = None, body: bytes = b"") -> Reply:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=self.timeout)
        fields = {**(UNCHECKED if self.job.kind == "s3" else {}), **(fields or {})}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            try:
                connection.request(method, target, body, {**fields, "Connection": "close"})
            except (BrokenPipeError, ConnectionResetError):
                if connection.sock is None:
                    raise
                # An answer may be there all the same.
            answer = connection.getresponse()
            data = answer.read()
            return Reply(answer.status, {n.lower(): v for n, v in answer.getheaders()}, data)
        except (OSError, http.client.HTTPException) as error:
            raise Lost(repr(error)) from error
        finally:
            connection.close()

    def again(self, what: Callable[[int], Reply], good: Callable[[Reply], bool] | None = None) -> Reply:
        """Ask until the answer is good; Failed for a final one, or when nothing helps."""
        seen = "nothing"
        for attempt in range(self.attempts):
            try:
                reply = what(attempt)
            except Lost as error:
                seen = str(error)
            else:
                if 200 <= reply.status < 300 and (good is None or good(reply)):
                    return reply
                seen = f"status {reply.status}"
                if self.final(reply):
                    raise Failed(seen)
            self.pause(attempt)
        raise Failed(f"given up: {seen}")

    def final(self, reply: Reply) -> bool:
        return 400 <= reply.status < 500 and reply.status not in BUSY

    def pause(self, attempt: int) -> None:
        time.sleep(0.01 * 2**attempt)

    # --- the ways of the stores

    def send(self) -> None:
        {"s3": self.to_s3, "swift": self.to_swift, "http": self.to_tus}[self.job.kind]()

    def pieces(self) -> list[tuple[int, int]]:
        step = self.job.part_size
        return [(at, min(step, len(self.data) - at)) for at in range(0, len(self.data), step)]

    @property
    def small(self) -> bool:
        return len(self.data) <= self.job.part_size

    def to_s3(self) -> None:
        if self.small:
            self.again(lambda n: self.ask("PUT", self.job.url, None, self.body(0, len(self.data), n)))
            return
        self.begin_s3()
        tags = [self.part(number, at, n) for number, (at, n) in enumerate(self.pieces(), 1)]
        self.complete(tags)

    @property
    def plain(self) -> str:
        return str(self.job.url.partition("?")[0])

    def begin_s3(self) -> None:
        reply = self.again(lambda _: self.ask("POST", f"{self.plain}?uploads"))
        found = re.search(rb"<UploadId>([^<]+)</UploadId>", reply.body)
        if not found:
            raise Failed("no upload id")
        self.record.write_text(f"{self.plain}?uploadId={quote(found[1].decode(), safe='')}")

    @property
    def upload(self) -> str:
        return self.record.read_text()

    def part(self, number: int, at: int, length: int) -> str:
        """Store a part; its tag."""
        tag = f'"{md5(self.data[at : at + length])}"'

        def put(attempt: int) -> Reply:
            url = self.upload.replace("?", f"?partNumber={number}&")
            return self.ask("PUT", url, None, self.body(at, length, attempt))

        self.again(put, lambda reply: reply.fields.get("etag") == tag)
        return tag

    def listing(self, tags: list[str]) -> bytes:
        rows = "".join(
            f"<Part><PartNumber>{n}</PartNumber><ETag>{t}</ETag></Part>" for n, t in enumerate(tags, 1)
        )
        return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()

    def complete(self, tags: list[str]) -> None:
        """Until the object is there, whatever the answers say."""
        for attempt in range(self.attempts):
            try:
                reply = self.ask("POST", self.upload, None, self.listing(tags))
            except Lost:
                reply = Reply(0, {}, b"")
            if self.completed(reply) or self.is_there(tags):
                return
            if self.final(reply):
                break
            self.pause(attempt)
        raise Failed(f"not completed: status {reply.status} {reply.body[:100]!r}")

    def completed(self, reply: Reply) -> bool:
        return reply.status == 200 and b"<Error>" not in reply.body

    def is_there(self, tags: list[str]) -> bool:
        """Whether the store has this very object."""
        try:
            reply = self.again(lambda _: self.ask("HEAD", self.plain))
        except Failed:
            return False
        whole = md5(b"".join(bytes.fromhex(tag.strip('"')) for tag in tags))
        same = reply.fields.get("etag", "").strip('"') == f"{whole}-{len(tags)}"
        return same and reply.fields.get("content-length") == str(len(self.data))

    # Swift

    def authorized(self, method: str, path: str, fields: dict[str, str], body: bytes = b"") -> Reply:
        """A request below the container's account; signed in anew when the token is not taken."""
        for _ in range(2):
            if not self.token:
                self.token = self.again(lambda _: self.sign_in()).fields["x-auth-token"]
            base = self.plain.split("/midstream/")[0]
            reply = self.ask(method, f"{base}/{path}", {**fields, "X-Auth-Token": self.token}, body)
            if reply.status != 401:
                break
            self.token = ""
        return reply

    def sign_in(self) -> Reply:
        env = self.job.env
        return self.ask("GET", env["ST_AUTH"], {"X-Auth-User": env["ST_USER"], "X-Auth-Key": env["ST_KEY"]})

    @property
    def object(self) -> str:
        return self.plain.split("/", 5)[5]

    def to_swift(self) -> None:
        if self.small:
            put = lambda n: self.authorized("PUT", self.object, {}, self.body(0, len(self.data), n))  # noqa: E731
            self.again(put)
            return
        key = self.object.partition("/")[2]
        self.record.write_text(f"midstream_segments/{key}/{time.time_ns()}")
        rows = [self.segment(number, at, n) for number, (at, n) in enumerate(self.pieces())]
        self.manifest(rows)

    def segment(self, number: int, at: int, length: int) -> dict[str, Any]:
        path, tag = f"{self.upload}/{number:08d}", md5(self.data[at : at + length])

        def put(attempt: int) -> Reply:
            return self.authorized("PUT", path, {}, self.body(at, length, attempt))

        self.again(put, lambda reply: reply.fields.get("etag", "").strip('"') == tag)
        return {"path": f"/{path}", "etag": tag, "size_bytes": length}

    def manifest(self, rows: list[dict[str, Any]]) -> None:
        """Until the object is there, whatever the answers say."""
        data = json.dumps(rows).encode()
        seen = 0
        for attempt in range(self.attempts):
            try:
                reply = self.authorized("PUT", f"{self.object}?multipart-manifest=put", {}, data)
            except Lost:
                reply = Reply(0, {}, b"")
            if 200 <= reply.status < 300 or self.is_there_in_swift(rows):
                return
            seen = reply.status
            if self.final(reply):
                break
            self.pause(attempt)
        raise Failed(f"no object of the segments: status {seen}")

    def is_there_in_swift(self, rows: list[dict[str, Any]]) -> bool:
        try:
            reply = self.again(lambda _: self.authorized("HEAD", self.object, {}))
        except Failed:
            return False
        whole = md5("".join(row["etag"] for row in rows).encode())
        same = reply.fields.get("etag", "").strip('"') == whole
        return same and reply.fields.get("content-length") == str(len(self.data))

    # tus

    def to_tus(self) -> None:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(self.data))}
        reply = self.again(lambda _: self.ask("POST", self.job.url, headers))
        parts = urlsplit(self.job.url)
        where = reply.fields["location"]
        self.record.write_text(where if "://" in where else f"{parts.scheme}://{parts.netloc}{where}")
        self.append(0)

    def append(self, offset: int) -> None:
        """Send what is left; after any doubt go on where the server says."""
        failures = 0
        while offset < len(self.data):
            fields = {
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": str(offset),
                "Content-Type": "application/offset+octet-stream",
            }
            reply = Reply(0, {}, b"")
            try:
                reply = self.ask(
                    "PATCH", self.upload, fields, self.body(offset, len(self.data) - offset, failures)
                )
            except Lost:
                pass
            if reply.status == 204:
                offset = int(reply.fields["upload-offset"])
                continue
            failures += 1
            if failures == self.attempts or (self.final(reply) and reply.status):
                raise Failed(f"status {reply.status}")
            self.pause(failures)
            offset = self.offset(offset)

    def offset(self, had: int) -> int:
        """What the server has; Failed when it claims what cannot be."""
        fields = {"Tus-Resumable": "1.0.0"}
        reply = self.again(
            lambda _: self.ask("HEAD", self.upload, fields), lambda r: "upload-offset" in r.fields
        )
        offset = int(reply.fields["upload-offset"])
        if offset > len(self.data):
            raise Failed(f"the server claims {offset} bytes")
        return offset

    # --- afterwards

    def give_up(self) -> None:
        """Remove what there is of the upload; asked again while that fails."""
        if self.record.exists():
            self.remove(self.upload)

    def remove(self, upload: str) -> None:
        try:
            if self.job.kind == "swift":
                for number in range(len(self.pieces()) or 16):
                    self.again(lambda _, n=number: self.gone("DELETE", f"{upload}/{n:08d}"))  # type: ignore[misc]
            else:
                fields = {"Tus-Resumable": "1.0.0"} if self.job.kind == "http" else {}
                self.again(lambda _: self.absent(self.ask("DELETE", upload, fields)))
        except Failed:
            pass

    def gone(self, method: str, path: str) -> Reply:
        return self.absent(self.authorized(method, path, {}))

    def absent(self, reply: Reply) -> Reply:
        """What is not there has been removed."""
        return Reply(204, reply.fields, b"") if reply.status in (404, 410) else reply

    def tidy(self) -> None:
        """Remove what a process that is dead has left."""
        for record in self.record.parent.glob("upload.*"):
            pid = int(record.suffix[1:])
            if not Path(f"/proc/{pid}").exists():
                self.remove(record.read_text())
                record.unlink()
