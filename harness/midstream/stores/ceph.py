"""Ceph block devices: an image with a snapshot for each object, on a Ceph of one node."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote, unquote

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._parts import SYSTEM, THIS
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import Access, ObjectInfo, RunningStore, Store, Traits, refusal
from midstream.stores._ceph_node import POOL
from midstream.stores._starting import own_folder, require

SNAPSHOT = "midstream"
COMMANDS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool")
START_SECONDS = 120.0
ORDER_SECONDS = 120.0
FORGOTTEN_SECONDS = 40.0
NAME_BYTES = 95  # RBD_MAX_IMAGE_NAME_SIZE, with its zero (librbd.h)
_MISSING = 2  # ENOENT, as the status of `rbd`
_PIECE = 1 << 20


class RunningCeph(RunningStore):
    """The cluster; every look at it is a command of Ceph's own, run where its daemons are."""

    id = "ceph"

    def __init__(self, server: ServerProcess, folder: Path, version: str) -> None:
        self.port = server.ready["port"]
        self.listen_port = server.ready["osd"]
        self.pid = server.pid
        self.version = version
        self._server, self._folder = server, folder
        # The path of a socket has room for 107 bytes; that of the folder may have more.
        self._here = os.open(folder / "data", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/self/fd/{self._here}/osd"
        self._lock, self._changing = threading.Lock(), threading.RLock()
        self._numbers = 0

    def command(
        self, *arguments: str, content: Content | None = None, missing: bool = False
    ) -> tuple[bytes, bool]:
        """What `rbd` prints, run where the daemons are.

        False with `missing` where it says that there is no such thing.
        """
        if not self.alive():
            raise StoreDied(f"{self.id}: the node has ended")
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(ORDER_SECONDS)
                sock.connect(f"/proc/self/fd/{self._here}/orders")
                sock.sendall(json.dumps(arguments).encode() + b"\n")
                for at in range(0, content.size if content else 0, _PIECE):
                    assert content
                    sock.sendall(content.read(at, _PIECE))
                sock.shutdown(socket.SHUT_WR)
                printed, _, told = b"".join(iter(lambda: sock.recv(_PIECE), b"")).rpartition(b"\n")
                result: dict[str, Any] = json.loads(told)
        except (OSError, ValueError) as error:
            raise StoreDied(f"{self.id}: the node does not answer: {error}") from error
        if result["status"] and not (missing and result["status"] == _MISSING):
            raise HarnessError(f"{self.id}: rbd {' '.join(arguments)}: {result['said'][-300:]}")
        return printed, not result["status"]

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, ("plain",), traits):
            raise UsageError(reason)
        name = image(key)
        if len(name) > NAME_BYTES:
            raise UsageError(f"{self.id}: {key!r} is too long for the name of an image")
        with self._lock:
            self._numbers += 1
            new = f"new.{self._numbers}"
        if content.size:
            self.command("import", "--no-progress", "-", f"{POOL}/{new}", content=content)
        else:
            self.command("create", "--size", "0", f"{POOL}/{new}")
        self.command("snap", "create", "--no-progress", f"{POOL}/{new}@{SNAPSHOT}")
        # A change that a case no longer waits for may meet the removal of its object.
        with self._changing:
            self.delete(key)
            self.command("rename", f"{POOL}/{new}", f"{POOL}/{name}")

    def stat(self, key: str) -> ObjectInfo | None:
        told, there = self.command(
            "info", "--format", "json", f"{POOL}/{image(key)}@{SNAPSHOT}", missing=True
        )
        if not there:
            return None
        facts = json.loads(told)
        return ObjectInfo(facts["size"], facts["id"])

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        data, there = self.command(
            "export", "--no-progress", f"{POOL}/{image(key)}@{SNAPSHOT}", "-", missing=True
        )
        if not there:
            raise UsageError(f"{self.id}: no object is called {key!r}")
        return data[start:] if length is None else data[start : start + max(0, length)]

    def delete(self, key: str) -> None:
        self._delete(image(key))

    def _delete(self, name: str) -> None:
        spec = f"{POOL}/{name}"
        with self._changing:
            if self.command("snap", "purge", "--no-progress", spec, missing=True)[1]:
                self._remove(spec)

    def _remove(self, spec: str) -> None:
        """Remove an image. Whoever had it open last may not have been forgotten yet (for 30 s at most)."""
        deadline = time.monotonic() + FORGOTTEN_SECONDS
        while True:
            try:
                self.command("rm", "--no-progress", spec, missing=True)
                return
            except HarnessError as error:
                if "has watchers" not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def _images(self) -> list[str]:
        names: list[str] = json.loads(self.command("ls", "--format", "json", POOL)[0])
        return names

    def keys(self) -> list[str]:
        return sorted(unquote(name[2:]) for name in self._images() if name.startswith("k."))

    def _beside(self, key: str) -> list[str]:
        """Other images that an upload of the name has made: their names hold it, by every client's custom."""
        return [name for name in self._images() if image(key) in name and name != image(key)]

    def orphans(self, key: str) -> list[str]:
        """Images under names of a client's own making, and one that never got its snapshot."""
        strays = [f"the image {name}" for name in self._beside(key)]
        if self.stat(key) is None and image(key) in self._images():
            strays.append(f"the image {image(key)} without its snapshot")
        return strays

    def clear(self, key: str) -> None:
        for name in (image(key), *self._beside(key)):
            self._delete(name)

    def access(self, key: str, base_url: str) -> Access:
        """Clients look for the OSD at one port only, so `base_url` has to be there."""
        native = f"rbd://{POOL}/{quote(image(key), safe='')}@{SNAPSHOT}"
        return Access("rbd", native, native, {"CEPH_CONF": str(self._folder / "data" / "ceph.conf")})

    def alive(self) -> bool:
        return self._server.alive()

    def stop(self) -> None:
        self._server.stop()
        with self._lock:
            if self._here >= 0:
                os.close(self._here)
                self._here = -1
        shutil.rmtree(self._folder, ignore_errors=True)


def image(key: str) -> str:
    """The name of the image that holds an object: no name of an image has / or @."""
    return f"k.{quote(key, safe='')}"


class Ceph(Store):
    """One monitor and one OSD from the system's packages, behind one port each."""

    id: ClassVar[str] = "ceph"
    summary: ClassVar[str] = "Ceph block devices (RBD) on one node, cut by the byte of the connection"
    kind: ClassVar[str] = "rbd"
    raw: ClassVar[bool] = True
    uploads: ClassVar[tuple[str, ...]] = ("put",)

    def available(self) -> Availability:
        if absent := [command for command in COMMANDS if not THIS.which(command)]:
            return Availability(False, f"not installed: {', '.join(absent)}", SYSTEM["ceph"])
        if lack := _lacks_network():
            hint = "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)"
            return Availability(False, lack, hint)
        said = re.search(r"version (\d+(?:\.\d+)+)", THIS.ask((THIS.which("ceph-osd") or "", "--version")))
        return Availability(version=said[1] if said else "", how="binary ceph-mon, ceph-osd")

    def start(self, folder: Path) -> RunningCeph:
        available = self.available()
        require(self.id, available)
        own = own_folder(self.id, folder)
        try:
            arguments = [
                "-m",
                "midstream.stores._ceph_node",
                "--owned",
                str(own),
                "--data",
                str(own / "data"),
            ]
            server = ServerProcess(self.id, arguments, own / "log", ready_seconds=START_SECONDS)
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise
        return RunningCeph(server, own, available.version)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return "other"


@functools.cache
def _lacks_network() -> str:
    """Why the daemons cannot have a network of their own here; "" when they can."""
    probe = [sys.executable, "-P", "-m", "midstream.stores._ceph_node", "--probe", "--data", "."]
    done = subprocess.run(probe, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].partition(": ")[2] if done.returncode and lines else ""


MEMBER = Ceph()
