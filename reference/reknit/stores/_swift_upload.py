"""Uploads to Swift: one PUT, or segments and the manifest of a static large object.

Every body goes with its MD5 as ETag, and a spoilt one is refused (422). The segments are
`<container>_segments/<object>/<session>/<number>`; the manifest, which goes last, names them with ETag and
size, and Swift looks at each before it takes it. They must outlive it, so none of them gets an X-Delete-After
when it is stored: only one that an abort cannot delete is told to expire.

Swift keeps no list of the uploads under way, and its listings lag behind: what an earlier process stored is
found by asking for each segment. The segments of an object that is replaced are left alone, for another
manifest may name them.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from urllib.parse import unquote

from reknit._options import Options
from reknit._upload_events import Piece, Shape, Stored, Told
from reknit.stores._lines import Lines
from reknit.stores._uploader import Body, Small, UploaderBase
from reknit.stores.swift import Denied, SwiftStore

# Swift's defaults (max_file_size, and max_manifest_segments of the middleware slo).
_MOST, _COUNT = 5 << 30, 1000
_ORPHANS_EXPIRE = "86400"


def combined(parts: Sequence[Stored]) -> str:
    """The ETag of a large object: the MD5 of its segments' ETags, written one after the other."""
    together = "".join(part.tag.strip('"') for part in parts)
    return hashlib.md5(together.encode(), usedforsecurity=False).hexdigest()


class SwiftUploader(UploaderBase):
    """One object."""

    shape = Shape("parts", SwiftStore.dialect, hashed=True, most=_MOST, count=_COUNT, combined=combined)

    def __init__(self, store: SwiftStore, options: Options) -> None:
        self._store, self._lines = store, Lines(options)
        self.identity = store.identity

    def put(self, body: Body) -> Told:
        """PUT."""
        return self._put(self._store.path, body)

    def begin(self, size: int) -> Told:
        """See that both containers are there; the name of the segments is ours to choose."""
        container, _, name = self._store.path.partition("/")
        told = self._ask("HEAD", container)
        if told.done:
            told = self._ask("PUT", f"{container}_segments", body=Small(b""))
        return replace(told, session=f"{container}_segments/{name}/{secrets.token_hex(8)}")

    def send(self, session: str, piece: Piece, body: Body) -> Told:
        """PUT of a segment."""
        return self._put(_segment(session, piece.number), body)

    def look(self, session: str, after: str, last: int) -> Told:
        """HEAD of the next segment."""
        number = int(after or 0) + 1
        if number > last:
            return Told(200, {})
        told = self._ask("HEAD", _segment(session, number))
        more = str(number) if number < last else ""
        if told.status == 404:
            return replace(told, status=200, more=more)
        size, tag = int(told.headers.get("content-length", "-1")), told.headers.get("etag", "")
        return replace(told, parts=(Stored(number, size, tag),), more=more)

    def commit(self, session: str, parts: Sequence[Stored]) -> Told:
        """PUT of the manifest."""
        listed = [
            {
                "path": "/" + unquote(_segment(session, part.number)),
                "etag": part.tag.strip('"'),
                "size_bytes": part.size,
            }
            for part in parts
        ]
        body = Small(json.dumps(listed).encode())
        return self._ask("PUT", f"{self._store.path}?multipart-manifest=put", body=body)

    def abort(self, session: str, after: str, last: int) -> Told:
        """DELETE of the next segment, or, where that is refused, its end in a day."""
        number = int(after or 0) + 1
        told = self._ask("DELETE", _segment(session, number))
        if told.status in (403, 405, 409):
            expire = {"X-Delete-After": _ORPHANS_EXPIRE}
            told = self._ask("POST", _segment(session, number), expire, Small(b""))
        more = str(number) if number < last else ""
        return replace(told, more=more, gone=told.status == 404)

    def stat(self) -> Told:
        """HEAD."""
        return self._ask("HEAD", self._store.path)

    def renew(self) -> bool:
        """Log in again."""
        return self._store.renew()

    def close(self) -> None:
        """See Uploader.close."""
        self._lines.close()

    def _put(self, path: str, body: Body) -> Told:
        told = self._ask("PUT", path, {"ETag": body.md5}, body)
        return replace(told, spoilt=told.status == 422)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Body | None = None
    ) -> Told:
        try:
            storage_url, private = self._store.reach()
        except Denied as denied:
            return Told(denied.answer.status, denied.answer.headers)
        got = self._lines.ask(method, f"{storage_url}/{path}", headers or {}, private, body)
        if got.status < 400 or not got.content:
            return got.told()
        reason = re.sub(r"<[^>]*>|\s+", " ", got.content[:1024].decode(errors="replace")).strip()
        return got.told(headers={**got.headers, "x-reknit-reason": reason})


def _segment(session: str, number: int) -> str:
    return f"{session}/{number:08d}"
