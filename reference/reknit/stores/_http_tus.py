"""Resumable uploads by tus 1.0.0 (tus.io/protocols/resumable-upload): core, creation, termination, checksum.

A URL that ends with a slash is where the server creates uploads, and the object is then found at the URL of
its upload; any other names the object itself. Where the server verifies checksums, bytes are sent in pieces
of at most 8 MiB with the SHA-1 of each: a piece that breaks off is dropped whole there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from reknit._options import Options
from reknit._retry import RETRYABLE
from reknit._upload_events import Piece, Told
from reknit.stores import http
from reknit.stores._http_resumable import Resumable, broke_off, number, saying
from reknit.stores._lines import Got, Lines
from reknit.stores._uploader import Body

_TYPE = "application/offset+octet-stream"
_PIECE = 8 << 20
_MISMATCH = 460


class Tus(Resumable):
    """The client side of tus."""

    spoken: ClassVar[Mapping[str, str]] = {"Tus-Resumable": "1.0.0"}

    def __init__(self, target: http.HttpStore, options: Options, lines: Lines) -> None:
        super().__init__(target, options, lines)
        self._summed: bool | None = None  # whether the server verifies checksums; None until it was asked
        self._largest: int | None = None
        self._piece = _PIECE

    def begin(self, size: int) -> Told:
        """Creation. The file's name is for servers that make their own use of it."""
        if (busy := self._discover()) is not None:
            return busy
        if self._largest is not None and size > self._largest:
            return Told(413, {"x-reknit-reason": f"it takes no more than {self._largest} bytes"})
        name = self._options.store.get("filename") or urlsplit(self._target.url).path.rpartition("/")[2]
        ours = {"Upload-Length": str(size)}
        if name:
            ours["Upload-Metadata"] = f"filename {base64.b64encode(name.encode()).decode()}"
        got = self._ask("POST", self._target.url, ours)
        if not 200 <= got.status < 300:
            return got.told()
        session = self._begun(got)
        if got.status != 201 or not session:
            return saying(got, 501, "it names no upload")
        self._session, self._size = session, size
        # Creation of an upload of no bytes is all there is to it.
        return got.told(session=session, offset=0, complete=not size, most=self._most)

    def look(self, session: str, after: str, last: int) -> Told:
        """HEAD of the upload."""
        if (busy := self._discover()) is not None:
            return busy
        got = self._ask("HEAD", session)
        if 200 <= got.status < 300:
            self._session, self._size = session, number(got.headers.get("upload-length", ""))
        return self._told(got)

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """PATCH."""
        ours = {"Content-Type": _TYPE, "Upload-Offset": str(piece.offset)}
        if not self._summed:
            return self._told(self._ask("PATCH", session, ours, body))
        body = _Read(body)
        digest = base64.b64encode(hashlib.sha1(body.data, usedforsecurity=False).digest())
        ours["Upload-Checksum"] = f"sha1 {digest.decode()}"
        # On a line that keeps breaking, a piece has to fit between two breaks.
        self._piece = max(1, piece.size // 4)
        got = self._ask("PATCH", session, ours, body)
        self._piece = min(_PIECE, max(1, piece.size) * 2)
        return self._told(got)

    @property
    def _most(self) -> int | None:
        return self._piece if self._summed else None

    def _discover(self) -> Told | None:
        """Learn once what the server offers; the answer of one that cannot say now."""
        if self._summed is not None:
            return None
        got = self._ask("OPTIONS", self._target.url)
        if got.status in RETRYABLE:
            return got.told()
        said = {name: words(got.headers, f"tus-{name}") for name in ("extension", "checksum-algorithm")}
        self._summed = "checksum" in said["extension"] and "sha1" in said["checksum-algorithm"]
        self._largest = number(got.headers.get("tus-max-size", ""))
        return None

    def _told(self, got: Got, offset: int | None = None) -> Told:
        told = super()._told(got, offset)
        complete = told.done and told.offset is not None and told.offset == self._size
        spoilt = got.status == _MISMATCH or broke_off(got)
        return got.told(gone=told.gone, offset=told.offset, complete=complete, spoilt=spoilt, most=self._most)


def uploader(url: str, options: Options) -> Tus:
    """The one who takes the object at `url`."""
    return Tus(http.connect(url, options), options, Lines(options))


class _Read:
    """A body in memory: what is sent is what was hashed."""

    def __init__(self, body: Body) -> None:
        self.size, self.md5, self.crc32 = body.size, body.md5, body.crc32
        self.data = b"".join(body.blocks())

    def blocks(self) -> Iterator[memoryview]:
        """All at once."""
        yield memoryview(self.data)


def words(headers: Mapping[str, str], name: str) -> set[str]:
    """The members of a list field."""
    return {word.strip() for word in headers.get(name, "").lower().split(",")}
