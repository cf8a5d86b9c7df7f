"""A small HTTP origin of our own: objects made on demand, shown in every way an object can be."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._registry import Availability
from midstream.stores import Access, ObjectInfo, RunningStore, Store, Traits, lays_out
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._starting import own_folder, package_version, start

SECONDS = 60.0  # a digest of a 1 GiB object takes about 5 s


class RunningOrigin(RunningStore):
    """The origin; objects are put by saying what they are, not by sending them."""

    id = "origin"

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
        if key.startswith("_control/"):
            raise UsageError(f"origin: key {key!r}: names below _control/ are its own")
        if reason := MEMBER.supports(traits):
            raise UsageError(reason)
        order = {"key": key, "traits": asdict(traits), **asdict(content)}
        self._ask("POST", "put", order)

    def stat(self, key: str) -> ObjectInfo | None:
        found = self._ask("GET", "stat", {"key": key})
        return ObjectInfo(**json.loads(found)) if found is not None else None

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        span = {"start": start} if length is None else {"start": start, "length": max(0, length)}
        found = self._ask("GET", "read", {"key": key, **span})
        if found is None:
            raise UsageError(f"origin: no object is called {key!r}")
        return found

    def delete(self, key: str) -> None:
        self._ask("POST", "delete", {"key": key})

    def keys(self) -> list[str]:
        found: list[str] = json.loads(self._ask("GET", "keys", {}) or b"[]")
        return found

    def access(self, key: str, base_url: str) -> Access:
        url = f"{base_url.rstrip('/')}/{quote(key)}"
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


class Origin(Store):
    """The bundled origin."""

    id: ClassVar[str] = "origin"
    summary: ClassVar[str] = "small HTTP origin: every validator, framing and digest, generated objects"
    kind: ClassVar[str] = "http"
    under_way: ClassVar[Mapping[str, UnderWay]] = {
        "plain": UnderWay(Delivers.OLD, "a response keeps its object, and none is ever altered")
    }

    def available(self) -> Availability:
        return Availability(version=package_version("midstream"))

    def start(self, folder: Path) -> RunningOrigin:
        return RunningOrigin(folder)

    def serve(self, folder: Path, root: Path) -> RunningOrigin:
        """Start it as a plain origin for the files below `root`."""
        return RunningOrigin(folder, root)

    def supports(self, traits: Traits) -> str | None:
        return lays_out(self.id, self.layouts, traits)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        if target.startswith("/_control/"):
            return "other"
        return {"GET": "get_object", "HEAD": "head_object"}.get(method, "other")


MEMBER = Origin()
