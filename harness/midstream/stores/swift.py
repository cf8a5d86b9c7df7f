"""OpenStack Swift, the real one, in one process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from midstream.stores._swift import start_server
from midstream.stores._swift_objects import RunningSwift, SwiftStore


class Swift(SwiftStore):
    """The servers as applications of one process."""

    id: ClassVar[str] = "swift"
    summary: ClassVar[str] = "OpenStack Swift in one process, v1 authentication"

    def start(self, folder: Path) -> RunningSwift:
        server, own, version = start_server(self.id, folder)
        try:
            return RunningSwift(server, own, version)
        except BaseException:
            server.stop()
            shutil.rmtree(own, ignore_errors=True)
            raise


MEMBER = Swift()
