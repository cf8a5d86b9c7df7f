"""A small HTTP origin of our own: objects made on demand, shown in every way an object can be."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from midstream._content import Content
from midstream._errors import HarnessError, SetupError, StoreDied, UsageError
from midstream._parts import Endpoint, Found, attached
from midstream._registry import Availability
from midstream.stores import Access, ObjectInfo, RunningStore, Store, Traits, lays_out
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._elsewhere import Line, complain, own_name
from midstream.stores._origin_application import path_of
from midstream.stores._origin_ietf import boolean
from midstream.stores._origin_objects import Made
from midstream.stores._origin_uploads import PREFIX
from midstream.stores._starting import own_folder, package_version, require, start

OBJECT_OPERATIONS = {
    "GET": "get_object",
    "HEAD": "head_object",
    "PUT": "put_object",
    "DELETE": "delete_object",
}
UPLOAD_OPERATIONS = {"HEAD": "upload_offset", "PATCH": "append_upload", "DELETE": "abort_upload"}
SECONDS = 60.0  # a digest of a 1 GiB object takes about 5 s


@dataclass(frozen=True)
class UploadInfo:
    """A resumable upload as the origin has it: `protocol` is ietf or tus, `state` open, complete or gone."""

    id: str
    key: str
    protocol: str
    offset: int
    length: int | None
    state: str


class RunningOrigin(RunningStore):
    """The origin; objects are put by saying what they are, not by sending them."""

    id = "origin"
    _below = ""  # what the names of all objects begin with

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self._folder = own_folder(self.id, folder)
        options = ("--dir", str(root)) if root else ()
        self._server = start(self.id, "midstream.stores._origin_server", self._folder, *options)
        self.pid = self._server.pid
        self.port = self._server.ready["port"]
        self.version = package_version("midstream")
        self._control: str = self._server.ready["control"]
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        self._lock = threading.Lock()

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if key.startswith(("_control/", "_uploads/")):
            raise UsageError(f"origin: key {key!r}: names below _control/ and _uploads/ are its own")
        if reason := MEMBER.supports(traits):
            raise UsageError(reason)
        order = {"key": self._below + key, "traits": asdict(traits), **asdict(content)}
        self._ask("POST", "put", order)

    def stat(self, key: str) -> ObjectInfo | None:
        found = self._ask("GET", "stat", {"key": self._below + key})
        return ObjectInfo(**json.loads(found)) if found is not None else None

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        span = {"start": start} if length is None else {"start": start, "length": max(0, length)}
        found = self._ask("GET", "read", {"key": self._below + key, **span})
        if found is None:
            raise UsageError(f"origin: no object is called {key!r}")
        return found

    def delete(self, key: str) -> None:
        self._ask("POST", "delete", {"key": self._below + key})

    def keys(self) -> list[str]:
        found: list[str] = json.loads(self._ask("GET", "keys", {}) or b"[]")
        return [key.removeprefix(self._below) for key in found if key.startswith(self._below)]

    def uploads(self, key: str | None = None) -> list[UploadInfo]:
        """Resumable uploads, of one object or of all, in the order they were begun."""
        found = [UploadInfo(**one) for one in json.loads(self._ask("GET", "uploads", {}) or b"[]")]
        mine = [
            replace(one, key=one.key.removeprefix(self._below))
            for one in found
            if one.key.startswith(self._below)
        ]
        return [one for one in mine if key in (None, one.key)]

    def unfinished(self, key: str | None = None) -> list[UploadInfo]:
        """Those that are neither complete nor cancelled: what a client has left behind."""
        return [upload for upload in self.uploads(key) if upload.state == "open"]

    def made(self, key: str) -> list[Made]:
        """Every time an object of this name was made, the oldest first: put or uploaded twice is two."""
        return [
            Made(**one) for one in json.loads(self._ask("GET", "made", {"key": self._below + key}) or b"[]")
        ]

    def limit_uploads(self, key: str, **limits: int) -> None:
        """Set limits for uploads of this name that are begun from now on: max_size, max_append_size."""
        named = {name.replace("_", "-"): value for name, value in limits.items()}
        self._ask("POST", "limit", {"key": self._below + key, "limits": named})

    def shorten_upload(self, upload_id: str, offset: int) -> None:
        """Make an unfinished upload forget its bytes from `offset` on, as if they had never been stored."""
        self._ask("POST", "shorten", {"id": upload_id, "offset": offset})

    def orphans(self, key: str) -> list[str]:
        open_ones = self.unfinished(key)
        strays = [f"an unfinished upload ({one.protocol}), {one.offset} bytes" for one in open_ones]
        return strays + [f"the object {name}" for name in self.keys() if name != key and name.startswith(key)]

    def access(self, key: str, base_url: str) -> Access:
        url = f"{base_url.rstrip('/')}/{quote(self._below + key)}"
        return Access("http", url, url)

    def alive(self) -> bool:
        return self._server.alive()

    def stop(self) -> None:
        self._server.stop()
        self._http.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, method: str, name: str, values: Mapping[str, Any]) -> bytes | None:
        """One control request; None when there is no such object."""
        query, body = (f"?{urlencode(values)}", None) if method == "GET" else ("", json.dumps(values))
        with self._lock:
            try:
                self._http.request(method, f"{self._control}/{name}{query}", body)
                response = self._http.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._http.close()
                raise StoreDied(f"origin: does not answer on port {self.port}: {error!r}") from error
        if response.status == 404:
            return None
        if response.status >= 300:
            raise HarnessError(f"origin: {name}: {data.decode('utf-8', 'replace').strip()}")
        return data


class OriginElsewhere(RunningOrigin):
    """An origin that somebody else runs, by the secret of its control path; objects have a prefix of ours."""

    def __init__(self, found: Found) -> None:
        (secret,) = found.env.values()
        endpoint = Endpoint.parse(f"the address of {self.id}", found.what)
        self._line = Line(self.id, endpoint)
        self.port = self._line.port
        self._below = f"{own_name()}/"
        self._control = f"/_control/{secret}"
        self._http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        self._lock = threading.Lock()
        try:
            json.loads(self._ask("GET", "keys", {}) or b"")
        except (ValueError, HarnessError):
            self._line.close()
            self._http.close()
            reason = f"{endpoint.url} is no origin of midstream's with that secret"
            raise SetupError(f"{self.id}: {reason}; set {', '.join(found.env)}") from None

    def alive(self) -> bool:
        return self._line.alive()

    def stop(self) -> None:
        if not self._line.close():
            return
        try:
            for key in self.keys():
                self.delete(key)
        except HarnessError as error:
            complain(self.id, self._below, error)
        self._http.close()


class Origin(Store):
    """The bundled origin."""

    id: ClassVar[str] = "origin"
    summary: ClassVar[str] = "small HTTP origin: every validator, framing and digest, generated objects"
    kind: ClassVar[str] = "http"
    uploads: ClassVar[tuple[str, ...]] = ("put", "resumable")
    under_way: ClassVar[Mapping[str, UnderWay]] = {
        "plain": UnderWay(Delivers.OLD, "a response keeps its object, and none is ever altered")
    }

    def available(self) -> Availability:
        found = attached(self.id, ("SECRET_KEY",))
        return Availability(version=package_version("midstream")) if found is None else found.availability()

    def start(self, folder: Path) -> RunningOrigin:
        require(self.id, self.available())
        found = attached(self.id, ("SECRET_KEY",))
        return OriginElsewhere(found) if found else RunningOrigin(folder)

    def serve(self, folder: Path, root: Path) -> RunningOrigin:
        """Start it as a plain origin for the files below `root`."""
        return RunningOrigin(folder, root)

    def supports(self, traits: Traits) -> str | None:
        return lays_out(self.id, self.layouts, traits)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        if target.startswith("/_control/"):
            return "other"
        if path_of(target).startswith(PREFIX):
            return UPLOAD_OPERATIONS.get(method, "other")
        names = {name.lower(): value for name, value in headers.items()}
        if method == "POST":
            return "create_upload" if names.keys() & {"tus-resumable", "upload-complete"} else "other"
        if method == "PUT" and boolean(names.get("upload-complete")) is False:
            return "create_upload"  # with ?1 it is the whole object, and resumption only an offer
        return OBJECT_OPERATIONS.get(method, "other")


MEMBER = Origin()
