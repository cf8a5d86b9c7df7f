"""OpenStack Swift as separate servers, with three replicas of every object."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import ClassVar

from midstream._errors import SetupError, StoreDied, UsageError
from midstream._processes import ServerProcess
from midstream.stores._starting import installed, own_folder, require, start
from midstream.stores._swift import DRIVERS, KEY, OWNER, S3_USER, lacks_xattrs
from midstream.stores._swift_objects import RunningSwift, SwiftStore
from midstream.stores._swift_servers import REPLICAS

ORDER_SECONDS = 10.0


class RunningSwiftAIO(RunningSwift):
    """The servers; the proxy goes on from another replica when an object server ends in mid-body."""

    id = "swift-aio"
    replicas = REPLICAS

    def __init__(self, server: ServerProcess, folder: Path, version: str) -> None:
        super().__init__(server, folder, version)
        self._orders: tuple[int, str] = server.ready["orders"], server.ready["secret"]

    def kill_backend(self, number: int) -> None:
        """End an object server as a crash would; nothing happens to one that has ended."""
        self._order("kill", number)

    def revive_backend(self, number: int) -> None:
        """Start an object server again, with an empty disk: what it had, only the others have."""
        self._order("revive", number)

    def run_backends(self, count: int | None) -> None:
        if count is not None and count not in range(REPLICAS + 1):
            raise UsageError(f"{self.id}: {count} of {REPLICAS} backends cannot run")
        lost = 0 if count is None else REPLICAS - count
        for number in range(REPLICAS):  # in the order in which the proxy reads from them
            self._order("kill" if number < lost else "start", number)

    def _order(self, what: str, number: int) -> None:
        if number not in range(REPLICAS):
            raise UsageError(f"{self.id}: backend {number}: there are {REPLICAS}, counted from 0")
        port, secret = self._orders
        try:
            with socket.create_connection(("127.0.0.1", port), ORDER_SECONDS) as line:
                line.sendall(f"{secret} {what} {number}\n".encode())
                done = line.makefile("rb").readline() == b"ok\n"
        except OSError as error:
            raise StoreDied(f"{self.id}: takes no orders: {error}") from error
        if not done:
            raise StoreDied(f"{self.id}: backend {number}: the order to {what} it was not carried out")


class SwiftAIO(SwiftStore):
    """Swift's own servers on ports of their own."""

    id: ClassVar[str] = "swift-aio"
    backends: ClassVar[int] = REPLICAS
    summary: ClassVar[str] = "OpenStack Swift as six separate servers, three replicas, v1 authentication"

    def start(self, folder: Path) -> RunningSwiftAIO:
        # Only the folder that is used counts here, not the one for temporary files.
        found = installed("swift", "swift", ("swift", "eventlet", "xattr", "pyeclib", "boto3"))
        require(self.id, found)
        own = own_folder(self.id, folder)
        if lack := lacks_xattrs(own):
            own.rmdir()
            raise SetupError(f"{self.id}: {lack}; give a data folder on ext4 or xfs")
        users = [option for user in (OWNER, S3_USER, *DRIVERS) for option in ("--user", user)]
        options = ("--data", str(own / "data"), "--key", KEY, *users)
        server = start(self.id, "midstream.stores._swift_servers", own, *options)
        try:
            return RunningSwiftAIO(server, own, found.version)
        except BaseException:
            server.stop()
            shutil.rmtree(own, ignore_errors=True)
            raise


MEMBER = SwiftAIO()
