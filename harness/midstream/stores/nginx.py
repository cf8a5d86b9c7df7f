"""nginx over files: the plain web server that most downloads in the world come from."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar
from urllib.parse import quote

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._parts import Endpoint, Found, attached, find
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import Access, ObjectInfo, RunningStore, Store, Traits, lays_out, refusal
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._elsewhere import LONG_AGO, RunningHttpElsewhere
from midstream.stores._hosted import launch
from midstream.stores._starting import own_folder

VALIDATORS = {  # what of a location's settings makes it show no more than this
    "strong": "",
    "modified": "etag off;",
    "none": 'etag off; add_header Last-Modified "";',
}
CONFIGURATION = """\
daemon off;
master_process off;
worker_rlimit_nofile 4096;
pid {own}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  server_tokens on;
  default_type application/octet-stream;
  client_body_temp_path {own}/temp;
  proxy_temp_path {own}/temp;
  fastcgi_temp_path {own}/temp;
  uwsgi_temp_path {own}/temp;
  scgi_temp_path {own}/temp;
  server {{
    listen 127.0.0.1:{{port}} backlog=512 sndbuf=128k;
    location = /-ready {{ return 204; }}
{locations}
  }}
}}
"""


def place(traits: Traits) -> str:
    """The name of the location that shows objects so."""
    words = [
        traits.validator,
        *(["whole"] if not traits.ranges else []),
        *(["bodies"] if not traits.head else []),
    ]
    return "-".join(words)


def configuration(own: Path) -> str:
    """One location for every way to show an object, all of the same files."""
    locations = []
    for validator, ranges, head in itertools.product(VALIDATORS, (True, False), (True, False)):
        settings = [VALIDATORS[validator], "" if ranges else "max_ranges 0;"]
        settings += [] if head else ["if ($request_method = HEAD) { return 405; }"]
        name = place(Traits(validator=validator, ranges=ranges, head=head))
        text = " ".join(filter(None, settings))
        locations.append(f"    location /{name}/ {{ alias {own}/files/; {text} }}")
    return CONFIGURATION.format(own=own, locations="\n".join(locations))


class RunningNginx(RunningStore):
    """Files are written by the harness; a file is never altered, only replaced by another.

    The ETag of nginx is time and size, the time in seconds: each file gets one of its own, a second after the
    last, so that an object replaced within a second is another one.
    """

    id = "nginx"

    def __init__(self, found: Found, folder: Path) -> None:
        own = own_folder(self.id, folder)
        for sub in ("files", "temp", "new"):
            (own / sub).mkdir()
        settings = own / "nginx.conf"
        settings.write_text(configuration(own))
        arguments = ["-p", str(own), "-c", str(settings), "-e", "stderr"]
        self._server: ServerProcess = launch(found, own, arguments, {}, "/-ready", settings)
        self.port = self._server.ready["port"]
        self.pid = self._server.pid
        self.version = found.version
        self._folder = own
        self._files = own / "files"
        self._times = itertools.count(LONG_AGO)
        self._traits: dict[str, Traits] = {}
        self._lock = threading.Lock()

    def _require_alive(self) -> None:
        if not self.alive():
            raise StoreDied(f"{self.id}: does not answer on port {self.port}: the server has ended")

    def _path(self, key: str) -> Path:
        if not key or any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
            raise UsageError(f"{self.id}: key {key!r} is no path of a file")
        return self._files / PurePosixPath(key)

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := MEMBER.supports(traits):
            raise UsageError(reason)
        self._require_alive()
        path = self._path(key)
        fd, name = tempfile.mkstemp(dir=self._folder / "new")
        try:
            with os.fdopen(fd, "wb") as file:
                for block in content.blocks():
                    file.write(block)
            Path(name).chmod(0o644)
            with self._lock:
                time = next(self._times)
                os.utime(name, (time, time))
                path.parent.mkdir(parents=True, exist_ok=True)
                Path(name).replace(path)
                self._traits[key] = traits
        except (IsADirectoryError, NotADirectoryError, FileExistsError):
            Path(name).unlink(missing_ok=True)
            raise UsageError(f"{self.id}: {key!r} would be a file and a folder at once") from None
        except BaseException as error:
            Path(name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise HarnessError(f"{self.id}: {key!r} cannot be written: {error.strerror}") from error
            raise

    def stat(self, key: str) -> ObjectInfo | None:
        self._require_alive()
        try:
            found = self._path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        tagged = self._traits.get(key, Traits()).validator == "strong"
        # src/http/ngx_http_core_module.c, ngx_http_set_etag
        return ObjectInfo(found.st_size, f'"{int(found.st_mtime):x}-{found.st_size:x}"' if tagged else None)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        self._require_alive()
        try:
            with self._path(key).open("rb") as file:
                file.seek(start)
                return file.read(-1 if length is None else max(0, length))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise UsageError(f"{self.id}: no object is called {key!r}") from None

    def delete(self, key: str) -> None:
        self._require_alive()
        path = self._path(key)
        with self._lock:
            self._traits.pop(key, None)
            try:
                path.unlink(missing_ok=True)
                for parent in path.relative_to(self._files).parents:
                    if parent.name:
                        (self._files / parent).rmdir()
            except OSError:
                pass  # a folder with something else in it, or none

    def keys(self) -> list[str]:
        self._require_alive()
        return sorted(str(p.relative_to(self._files)) for p in self._files.rglob("*") if p.is_file())

    def access(self, key: str, base_url: str) -> Access:
        location = place(self._traits.get(key, Traits()))
        url = f"{base_url.rstrip('/')}/{location}/{quote(key)}"
        return Access("http", url, url)

    def alive(self) -> bool:
        return self._server.alive()

    def stop(self) -> None:
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class Nginx(Store):
    """nginx with nothing but files behind it."""

    id: ClassVar[str] = "nginx"
    summary: ClassVar[str] = "nginx serving files: ETag of time and size, or less; no digest"
    kind: ClassVar[str] = "http"
    under_way: ClassVar[Mapping[str, UnderWay]] = {
        "plain": UnderWay(Delivers.OLD, "nginx sends the file it has opened, and a new object is a new file")
    }

    def available(self) -> Availability:
        return find(self.id).availability()

    def start(self, folder: Path) -> RunningStore:
        found = find(self.id).require()
        if found.how != "attach":
            return RunningNginx(found, folder)
        endpoint = Endpoint.parse(f"the address of {self.id}", found.what)
        own = own_folder(self.id, folder)
        try:
            return RunningHttpElsewhere(self.id, endpoint, None, own, found.version)
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise

    def supports(self, traits: Traits) -> str | None:
        if attached(self.id) is not None:  # it is set up as somebody else wants it
            return refusal(self.id, self.layouts, traits)
        if traits.validator not in VALIDATORS or traits.framing != "length":
            return f"{self.id} shows files: no {traits.validator} validator with {traits.framing} framing"
        return lays_out(self.id, self.layouts, traits)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return {"GET": "get_object", "HEAD": "head_object"}.get(method, "other")


MEMBER = Nginx()
