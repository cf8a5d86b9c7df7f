"""Resumable uploads by draft-ietf-httpbis-resumable-upload-12 (interop version 8).

An upload is created empty ("careful upload creation"), which tells its URL in a final response: the 104 of an
optimistic creation may be lost on the way, and with it every chance to go on. A server that does not know the
draft would take that for an empty object, so it is asked first what it offers.

A URL that ends with a slash is where the server makes uploads, by POST, and the object is then found at the
URL of its upload. There, interop version 6 is spoken as well, as by tusd 2.9: what is sent is the same, but
Upload-Limit is all that it offers, and the last answer need not say that it is complete.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from reknit._options import Options
from reknit._retry import RETRYABLE
from reknit._upload_events import Piece, Told
from reknit.stores import http
from reknit.stores._http_resumable import Resumable, broke_off, number, saying
from reknit.stores._lines import Got, Lines
from reknit.stores._uploader import Body

_TYPE = "application/partial-upload"


class Ietf(Resumable):
    """The draft's client."""

    _versions: ClassVar[Mapping[bool, str]] = {True: "8", False: "6"}  # by whether it has Accept-Patch

    def __init__(self, target: http.HttpStore, options: Options, lines: Lines) -> None:
        super().__init__(target, options, lines)
        self._current: bool | None = None  # None until it was asked

    @property
    def spoken(self) -> Mapping[str, str]:  # type: ignore[override]
        """See Resumable."""
        return {"Upload-Draft-Interop-Version": self._versions[self._current is not False]}

    def begin(self, size: int) -> Told:
        """Create the upload resource (Upload Creation), without content."""
        if (cannot := self._discover()) is not None:
            return cannot
        digest = self._options.expected.field if self._options.expected else {}
        told_before = {"Upload-Complete": "?0", "Upload-Length": str(size), **digest}
        got = self._ask("POST" if self._collects else "PUT", self._target.url, told_before)
        if not 200 <= got.status < 300:
            return got.told()
        session, told = self._begun(got), self._told(got)
        if not session:
            return saying(got, 501, "it names no upload resource")
        largest = limits(got).get("max-size", size)
        if largest < size:  # Limits: stop, and cancel
            self.abort(session, "", 0)
            return saying(got, 413, f"it takes no more than {largest} bytes")
        self._session, self._size = session, size
        return got.told(session=session, offset=told.offset or 0, most=told.most)

    def look(self, session: str, after: str, last: int) -> Told:
        """HEAD of the resource (Offset Retrieval)."""
        if (cannot := self._discover()) is not None:
            return cannot
        got = self._ask("HEAD", session)
        if 200 <= got.status < 300:
            self._session, self._size = session, number(got.headers.get("upload-length", ""))
        return self._told(got)

    def _discover(self) -> Told | None:
        """Learn once which version the server speaks; the answer of one that does not say."""
        if self._current is not None:
            return None
        for current in (True, False) if self._collects else (True,):
            self._current = current
            got = self._ask("OPTIONS", self._target.url)
            offers = (
                _TYPE in got.headers.get("accept-patch", "") if current else "upload-limit" in got.headers
            )
            if 200 <= got.status < 300 and offers:
                return None
            self._current = None
            if got.status in RETRYABLE:
                return got.told()
        if not 200 <= got.status < 300:
            return got.told()
        return saying(got, 501, "it offers no resumable uploads: no Accept-Patch for them")

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """PATCH (Upload Append)."""
        ours = {
            "Content-Type": _TYPE,
            "Upload-Offset": str(piece.offset),
            "Upload-Complete": "?1" if piece.last else "?0",
        }
        got = self._ask("PATCH", session, ours, body)
        told = self._told(got)
        if told.done and told.offset is None and not piece.last:
            # A 2xx says that all of it was taken; it need not say where that leads.
            return self._told(got, piece.offset + piece.size)
        if not self._current and told.done and piece.last and told.offset == piece.offset + piece.size:
            return replace(told, complete=True)
        return told

    def _told(self, got: Got, offset: int | None = None) -> Told:
        told = super()._told(got, offset)
        complete = got.headers.get("upload-complete", "").partition(";")[0].strip() == "?1"
        most = limits(got).get("max-append-size")
        spoilt = broke_off(got)
        return got.told(gone=told.gone, offset=told.offset, complete=complete, spoilt=spoilt, most=most)


def uploader(url: str, options: Options) -> Ietf:
    """The one who takes the object at `url`."""
    return Ietf(http.connect(url, options), options, Lines(options))


def limits(got: Got) -> dict[str, int]:
    """The integers of Upload-Limit; other members are ignored."""
    found = re.findall(r"([a-z][a-z-]*)\s*=\s*(\d{1,15})(?![\d.])", got.headers.get("upload-limit", ""))
    return {name: int(value) for name, value in found}
