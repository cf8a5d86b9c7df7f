"""Swift's large objects: segments in a container of their own, and a manifest that makes them one object."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from urllib.parse import quote, unquote

from midstream._content import Content
from midstream._errors import UsageError
from midstream.stores._bodies import body, pieces
from midstream.stores._changes import next_generation
from midstream.stores._swift import SEGMENTS, Api


@dataclass(frozen=True)
class Segment:
    """A segment: its path below the account, and which bytes of the object it holds."""

    path: str
    first: int
    length: int
    etag: str = ""


class Segments:
    """The segments of large objects: kept by key, since an object does not outlive the store that made it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._made: dict[str, tuple[Content, list[Segment]]] = {}
        self._folders = itertools.count()

    def upload(self, content: Content, key: str) -> list[Segment]:
        """Put an object's segments, at most four, below a name that no other object's are below."""
        if not content.size:
            raise UsageError(f"{self._api.name}: a large object has at least one byte")
        folder = f"{SEGMENTS}/{quote(key)}/{next(self._folders):08d}"
        made = []
        for number, (first, length) in enumerate(pieces(content.size, -(-content.size // 4))):
            path = f"{folder}/{number:08d}"
            reply = self._api.request("PUT", path, data=body(content, first, length))
            made.append(Segment(path, first, length, reply.headers["ETag"]))
        return made

    def own(self, key: str, content: Content, segments: list[Segment]) -> None:
        """The object of that name is now made of these segments: remove those it had."""
        self.disown(key)
        self._made[key] = content, segments

    def disown(self, key: str) -> None:
        """The object of that name is gone, or has no segments any more: remove those it had."""
        for segment in self._made.pop(key, (None, []))[1]:
            self._api.request("DELETE", segment.path, missing=True)

    def _last(self, key: str) -> tuple[Content, Segment]:
        if key not in self._made:
            raise UsageError(f"{self._api.name}: {key!r} has no segments")
        content, segments = self._made[key]
        return content, segments[-1]

    def lose(self, key: str) -> int:
        """Remove the last one; the byte it began at."""
        segment = self._last(key)[1]
        self._api.request("DELETE", segment.path, missing=True)
        return segment.first

    def change(self, key: str) -> int:
        """Overwrite the last one; the byte it begins at."""
        content, segment = self._last(key)
        data = body(next_generation(content), segment.first, segment.length)
        self._api.request("PUT", segment.path, data=data)
        return segment.first


def manifest(layout: str, segments: list[Segment]) -> tuple[str, dict[str, str], bytes]:
    """What makes one object of segments: the query, the headers and the body it is put with."""
    if layout == "dlo":
        return "", {"X-Object-Manifest": segments[0].path.rpartition("/")[0] + "/"}, b""
    rows = [{"path": f"/{unquote(s.path)}", "etag": s.etag, "size_bytes": s.length} for s in segments]
    return "?multipart-manifest=put", {}, json.dumps(rows).encode()
