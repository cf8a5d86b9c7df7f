"""Versity S3 Gateway over a folder: a real S3 that is maintained."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from midstream._parts import find
from midstream._registry import Availability
from midstream.stores import Store
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._hosted import start_s3
from midstream.stores._s3 import LAYOUTS, PART, UPLOADS, Keys, RunningS3, operation
from midstream.stores._xattrs import lacks_xattrs

KEYS = Keys("midstream", "midstream-secret")


class VersityGW(Store):
    """Objects are files and their metadata user xattrs."""

    id: ClassVar[str] = "versitygw"
    summary: ClassVar[str] = "Versity S3 Gateway, a real S3 over a folder"
    kind: ClassVar[str] = "s3"
    signed: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    uploads: ClassVar[tuple[str, ...]] = UPLOADS
    part_size: ClassVar[int] = PART
    leftovers: ClassVar[bool] = True
    under_way: ClassVar[Mapping[str, UnderWay]] = dict.fromkeys(
        LAYOUTS,
        UnderWay(
            Delivers.OLD, "its posix backend keeps the file it sends open and puts a new one (measured)"
        ),
    )

    def available(self) -> Availability:
        found = find(self.id)
        if found.how == "binary" and (lack := lacks_xattrs(self.id, Path(tempfile.gettempdir()))):
            return Availability(False, lack, "set TMPDIR to a folder on ext4 or xfs", found.version)
        return found.availability()

    def start(self, folder: Path) -> RunningS3:
        env = {"ROOT_ACCESS_KEY": KEYS.access, "ROOT_SECRET_KEY": KEYS.secret}

        def arguments(own: Path) -> list[str]:
            posix = ["posix", "--versioning-dir", str(own / "versions"), str(own / "data")]
            return ["--port", "127.0.0.1:{port}", "--health", "/health", *posix]

        return start_s3(
            self.id, folder, KEYS, arguments, env, "/health", lambda own: lacks_xattrs(self.id, own)
        )

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return operation(method, target)


MEMBER = VersityGW()
