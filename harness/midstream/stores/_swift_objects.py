"""What every Swift of ours shares: objects by Swift's own API, and how its requests are read."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qsl, quote, unquote

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import CONTAINER, Access, ObjectInfo, RunningStore, Store, Traits, refusal
from midstream.stores._bodies import body, pieces
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._swift import (
    ACCOUNT,
    DRIVERS,
    KEPT_OPEN,
    KEY,
    SEAM,
    SEGMENTS,
    Api,
    available,
    upload_link,
)
from midstream.stores._swift_orphans import strays
from midstream.stores._swift_segments import Segments, manifest


class RunningSwift(RunningStore):
    """Swift by its own API; anybody may read the container, so that a plain GET needs no token."""

    id = "swift"

    def __init__(self, server: ServerProcess, folder: Path, version: str) -> None:
        self.port = server.ready["port"]
        self.pid = server.pid
        self.version = version
        self._server = server
        self._folder = folder
        self._api = Api(self.id, self.port)
        self._api.create_containers()
        self._segments = Segments(self._api)
        self._control: str = server.ready["control"]
        self._drivers = itertools.cycle(DRIVERS)

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, SwiftStore.layouts, traits):
            raise UsageError(reason)
        if traits.layout == "plain":
            self._api.request("PUT", _path(key), data=body(content))
            self._segments.disown(key)
        else:
            segments = self._segments.upload(content, key)
            query, headers, data = manifest(traits.layout, segments)
            self._api.request("PUT", _path(key) + query, headers, data)
            self._segments.own(key, content, segments)

    def stat(self, key: str) -> ObjectInfo | None:
        found = self._api.request("HEAD", _path(key), missing=True)
        if found.status_code == 404:
            return None
        return ObjectInfo(int(found.headers["Content-Length"]), found.headers.get("ETag"))

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        info = self.stat(key)
        if info is None:
            raise UsageError(f"{self.id}: no object is called {key!r}")
        end = info.size if length is None else min(info.size, start + length)
        if start >= end:
            return b""
        try:
            return self._api.request("GET", _path(key), {"Range": f"bytes={start}-{end - 1}"}).content
        except StoreDied as error:
            if not self.alive():
                raise
            raise HarnessError(f"{self.id}: {key!r} cannot be read to its end") from error

    def delete(self, key: str) -> None:
        self._api.request("DELETE", _path(key), missing=True)
        self._segments.disown(key)

    def lose_segment(self, key: str) -> int:
        return self._segments.lose(key)

    def change_segment(self, key: str) -> int:
        return self._segments.change(key)

    def expire_credentials(self, access: Access | None = None) -> None:
        self._api.control(self._control, access.env["ST_USER"] if access else "")

    def orphans(self, key: str) -> list[str]:
        return strays(self._api, key)

    def leave(self, key: str, content: Content, part: int) -> None:
        """Segments under the names that Swift's own client gives them."""
        for number, (first, length) in enumerate(pieces(content.size, part)[:-1]):
            path = f"{SEGMENTS}/{quote(key)}/{number:08d}"
            self._api.request("PUT", path, data=body(content, first, length))

    def clear(self, key: str) -> None:
        found = [*self._api.request("GET", f"{_path(key)}?multipart-manifest=get", missing=True).headers]
        whole = "?multipart-manifest=delete" if "X-Static-Large-Object" in found else ""
        self._api.request("DELETE", _path(key) + whole, missing=True)
        for path in strays(self._api, key):
            self._api.request("DELETE", quote(path), missing=True)

    def keys(self) -> list[str]:
        found: list[str] = []
        while True:
            marker = quote(found[-1], safe="") if found else ""
            page = self._api.request("GET", f"{CONTAINER}?format=json&marker={marker}").json()
            if not page:
                return sorted(found)
            found += [entry["name"] for entry in page]

    def access(self, key: str, base_url: str) -> Access:
        base = base_url.rstrip("/")
        env = {"ST_AUTH": f"{base}/auth/v1.0", "ST_USER": next(self._drivers), "ST_KEY": KEY}
        url = f"{base}/v1/AUTH_{ACCOUNT}/{_path(key)}"
        return Access("swift", url, f"swift://{CONTAINER}/{key}", env)

    def upload_access(self, key: str, base_url: str) -> Access:
        link = upload_link(base_url.rstrip("/"), f"/v1/AUTH_{ACCOUNT}/{_path(key)}")
        return replace(self.access(key, base_url), url=link)

    def alive(self) -> bool:
        return self._server.alive()

    def stop(self) -> None:
        self._server.stop()
        self._api.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _path(key: str) -> str:
    return f"{CONTAINER}/{quote(key)}"


class SwiftStore(Store):
    """A Swift by its own API."""

    kind: ClassVar[str] = "swift"
    layouts: ClassVar[tuple[str, ...]] = ("plain", "slo", "dlo")
    uploads: ClassVar[tuple[str, ...]] = ("put", "segments")
    part_size: ClassVar[int] = 64 * 1024  # it would take any; so that objects stay small
    leftovers: ClassVar[bool] = True
    under_way: ClassVar[Mapping[str, UnderWay]] = {
        "plain": KEPT_OPEN,
        "slo": SEAM,
        "dlo": SEAM,
        "dlo change-segment": UnderWay(
            Delivers.MIXED, "swift.common.middleware.dlo compares no segment's ETag (measured)"
        ),
    }

    def available(self) -> Availability:
        return available()

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return operation(method, target, headers)


def operation(method: str, target: str, headers: Mapping[str, str]) -> str:
    """What a request of Swift's own API is; pure."""
    path, _, query = target.partition("?")
    parts = path.lstrip("/").split("/", 3)
    if parts[0] == "auth":
        return "authenticate" if method == "GET" and parts[1:] in (["v1.0"], ["v1"]) else "other"
    if parts[0] != "v1" or len(parts) < 3 or not parts[2]:
        return "other"
    if len(parts) == 3 or not parts[3]:
        return "list_objects" if method == "GET" else "other"
    asked = dict(parse_qsl(query)).get("multipart-manifest")
    if method == "PUT":
        return _put(parts[2], asked == "put" or "x-object-manifest" in headers)
    if asked == "get":
        return "other"  # the manifest itself, not the object it makes
    return _OBJECTS.get(method, "other")


_OBJECTS = {"GET": "get_object", "HEAD": "head_object", "DELETE": "delete_object"}


def _put(container: str, manifest: bool) -> str:
    """Segments are those that go into a container of their own, as is the custom."""
    if manifest:
        return "put_manifest"
    return "put_object" if unquote(container) == CONTAINER else "put_segment"
