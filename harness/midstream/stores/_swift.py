"""What the two faces of Swift share: whether it can run here, and its server."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import requests

from midstream._content import Content
from midstream._errors import HarnessError, SetupError, StoreDied
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import CONTAINER
from midstream.stores._bodies import body
from midstream.stores._starting import installed, own_folder, require, start

ACCOUNT, USER, KEY = "midstream", "midstream:driver", "midstream-key"
SECONDS = 60.0


def available() -> Availability:
    """Whether Swift is installed and the folder for temporary files can hold its data."""
    found = installed("swift", "swift", ("swift", "eventlet", "xattr", "pyeclib", "boto3"))
    if found.available and (lack := lacks_xattrs(Path(tempfile.gettempdir()))):
        return Availability(False, lack, "set TMPDIR to a folder on ext4 or xfs", found.version)
    return found


def lacks_xattrs(folder: Path) -> str:
    """Why Swift cannot keep its data in this folder; "" when it can."""
    if not hasattr(os, "setxattr"):
        return "this system has no user xattrs, which Swift keeps its metadata in"
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as probe:
            os.setxattr(probe.name, "user.swift.metadata", b"midstream")
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENOSPC):
            raise
        return f"{folder} is on a file system without user xattrs, which Swift keeps its metadata in"
    return ""


def start_server(name: str, folder: Path) -> tuple[ServerProcess, Path, str]:
    """Start Swift below `folder`: the process, the folder it takes with it, the version."""
    # Only the folder that is used counts here, not the one for temporary files.
    found = installed("swift", "swift", ("swift", "eventlet", "xattr", "pyeclib", "boto3"))
    require(name, found)
    own = own_folder(name, folder)
    if lack := lacks_xattrs(own):
        own.rmdir()
        raise SetupError(f"{name}: {lack}; give a data folder on ext4 or xfs")
    options = ("--data", str(own / "data"), "--user", USER, "--key", KEY)
    return start(name, "midstream.stores._swift_server", own, *options), own, found.version


class Api:
    """Swift's own API, out of band."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and loopback
        response = self._request(
            "GET", f"http://127.0.0.1:{port}/auth/v1.0", {"X-Auth-User": USER, "X-Auth-Key": KEY}
        )
        self._session.headers["X-Auth-Token"] = response.headers["X-Auth-Token"]
        self._account = response.headers["X-Storage-Url"]

    def close(self) -> None:
        self._session.close()

    def request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: Content | None = None,
        missing: bool = False,
    ) -> requests.Response:
        """Ask for `path` below the account; with `missing` a 404 is an answer, not an error."""
        return self._request(method, f"{self._account}/{path}", headers, content, missing)

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        content: Content | None = None,
        missing: bool = False,
    ) -> requests.Response:
        data = body(content) if content else None
        try:
            response = self._session.request(method, url, headers=headers, data=data, timeout=SECONDS)
        except requests.RequestException as error:
            raise StoreDied(f"{self.name}: does not answer on port {self.port}: {error}") from error
        if response.status_code == 404 and missing:
            return response
        if not response.ok:
            raise HarnessError(f"{self.name}: {method} {url} gave {response.status_code} {response.reason}")
        return response

    def create_container(self) -> None:
        """Make the container everybody may read from."""
        self.request("PUT", CONTAINER, {"X-Container-Read": ".r:*"})
