"""What the two faces of Swift share: whether it can run here, and its server."""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from midstream._errors import HarnessError, SetupError, StoreDied
from midstream._processes import ServerProcess
from midstream._registry import Availability
from midstream.stores import CONTAINER
from midstream.stores._bodies import ContentFile
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._starting import installed, own_folder, require, start

if TYPE_CHECKING:
    import requests

ACCOUNT, KEY = "midstream", "midstream-key"
OWNER, S3_USER = f"{ACCOUNT}:owner", f"{ACCOUNT}:driver"
# A user has one token at a time: for one driver to lose its token, those that run beside it are other users.
DRIVERS = tuple(f"{ACCOUNT}:driver{n}" for n in range(16))
SEGMENTS = f"{CONTAINER}_segments"  # where Swift's own client puts them too
SECONDS = 60.0
EXPIRES = 86_400  # seconds an upload's link holds: longer than any case
KEPT_OPEN = UnderWay(
    Delivers.OLD, "swift.obj.diskfile keeps the file it sends open, and a new object is a new file (measured)"
)
SEAM = UnderWay(
    Delivers.SHORT,
    "swift.common.request_helpers.SegmentedIterable asks for a segment when its turn comes, and ends the "
    "connection when it is gone or not what the manifest says (measured)",
)


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
    users = [option for user in (OWNER, S3_USER, *DRIVERS) for option in ("--user", user)]
    options = ("--data", str(own / "data"), "--key", KEY, *users)
    return start(name, "midstream.stores._swift_server", own, *options), own, found.version


def upload_link(base: str, path: str) -> str:
    """A temporary URL that takes a PUT without a token (Swift API: TempURL)."""
    expires = int(time.time()) + EXPIRES
    signature = hmac.new(
        KEY.encode(), f"PUT\n{expires}\n{unquote(path)}".encode(), hashlib.sha256
    ).hexdigest()
    return f"{base}{path}?temp_url_sig={signature}&temp_url_expires={expires}"


class Api:
    """Swift's own API, out of band, as a user no driver is."""

    def __init__(self, name: str, port: int) -> None:
        import requests

        self.name = name
        self.port = port
        self._failure = requests.RequestException
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between us and loopback
        response = self._request(
            "GET", f"http://127.0.0.1:{port}/auth/v1.0", {"X-Auth-User": OWNER, "X-Auth-Key": KEY}
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
        data: bytes | ContentFile | None = None,
        missing: bool = False,
    ) -> requests.Response:
        """Ask for `path` below the account; with `missing` a 404 is an answer, not an error."""
        return self._request(method, f"{self._account}/{path}", headers, data, missing)

    def control(self, path: str, user: str = "") -> None:
        """Ask the server for something that is no request to Swift."""
        self._request("POST", f"http://127.0.0.1:{self.port}{path}", {"X-Auth-User": user})

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        data: bytes | ContentFile | None = None,
        missing: bool = False,
    ) -> requests.Response:
        try:
            response = self._session.request(method, url, headers=headers, data=data, timeout=SECONDS)
        except self._failure as error:
            raise StoreDied(f"{self.name}: does not answer on port {self.port}: {error}") from error
        if response.status_code == 404 and missing:
            return response
        if not response.ok:
            raise HarnessError(f"{self.name}: {method} {url} gave {response.status_code} {response.reason}")
        return response

    def create_containers(self) -> None:
        """Make the containers, from which everybody may read, and the key of links that take an upload."""
        self.request("POST", "", {"X-Account-Meta-Temp-URL-Key": KEY})
        self.request("PUT", CONTAINER, {"X-Container-Read": ".r:*"})
        # to read a dynamic large object is to list its segments
        self.request("PUT", SEGMENTS, {"X-Container-Read": ".r:*,.rlistings"})
