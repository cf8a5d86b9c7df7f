"""What the two protocols for resumable uploads over HTTP have in common: one resource that grows.

`session` is the URL of that resource. It is asked with the credentials of the target only where it lies on
the target's own host: a server names it, and may name any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urljoin, urlsplit

from reknit._options import Options
from reknit._representation import Dialect
from reknit._upload_events import Shape, Told
from reknit.stores._lines import Got, Lines
from reknit.stores._uploader import Body, UploaderBase
from reknit.stores._wire import same_origin
from reknit.stores.http import HttpStore

_BROKE_OFF = (b"ERR_UNEXPECTED_EOF", b"ERR_UPLOAD_INTERRUPTED")
_GONE = frozenset({404, 410})
# Of redirects, only those that keep the method are followed (the draft, Offset Retrieval).
_HOPS = 5


class Resumable(UploaderBase):
    """One object, in one growing resource."""

    shape = Shape("offset", Dialect("If-Range"))
    spoken: ClassVar[Mapping[str, str]] = {}
    """Fields that every request of the protocol carries."""

    def __init__(self, target: HttpStore, options: Options, lines: Lines) -> None:
        self._target, self._options, self._lines = target, options, lines
        # An upload of one protocol is none of the other.
        self.identity = f"{type(self).__name__}:{target.identity}"
        self._size: int | None = None  # what the server knows the object's length to be
        self._session = ""  # the upload that was last seen

    def renew(self) -> bool:
        """Ask the caller for a fresh link or fresh headers."""
        return self._target.renew()

    def close(self) -> None:
        """Drop the connections."""
        self._lines.close()

    def abort(self, session: str, after: str, last: int) -> Told:
        """DELETE removes the upload in both protocols."""
        return self._told(self._ask("DELETE", session))

    def stat(self) -> Told:
        """HEAD of the object; where it has no URL of its own, what the upload says of itself."""
        if not self._collects:
            return self._ask("HEAD", self._target.url).told()
        told = self.look(self._session, "", 0) if self._session else Told(404, {})
        if not told.done or told.complete:
            size = {} if self._size is None else {"content-length": str(self._size)}
            return Told(200 if told.done else told.status, {**told.headers, **size}, now=told.now)
        return Told(404, {"x-reknit-reason": "the upload is not complete"})

    @property
    def _collects(self) -> bool:
        """Whether the target is where the server makes uploads, and not what the object is to be called."""
        return urlsplit(self._target.url).path.endswith("/")

    def _ask(
        self, method: str, url: str, ours: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Got:
        private = self._target.private if same_origin(self._target.url, url) else {}
        return self._lines.ask(method, url, {**self.spoken, **(ours or {})}, private, body, hops=_HOPS)

    def _begun(self, got: Got) -> str:
        """The URL of the resource that an answer names; empty when it names none that can be asked."""
        place = got.headers.get("location", "")
        url = urljoin(self._target.url, place) if place else ""
        return url if urlsplit(url).scheme in ("http", "https") else ""

    def _told(self, got: Got, offset: int | None = None) -> Told:
        """What an answer of the resource says; `offset` where the answer itself has none."""
        said = number(got.headers.get("upload-offset", ""))
        return got.told(gone=got.status in _GONE, offset=offset if said is None else said)


def broke_off(got: Got) -> bool:
    """Whether it is tusd's answer to a body cut on the way, where that still finds its way back to us."""
    return got.status == 400 and got.content.startswith(_BROKE_OFF)


def number(text: str) -> int | None:
    """A non-negative integer, as both protocols write it; parameters of a structured field are ignored."""
    digits = text.partition(";")[0].strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def saying(got: Got, status: int, reason: str) -> Told:
    """What an answer comes to that we cannot go on with, whatever its status."""
    return got.told(status=status, headers={**got.headers, "x-reknit-reason": reason})
