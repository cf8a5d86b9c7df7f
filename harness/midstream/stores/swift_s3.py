"""OpenStack Swift again, by its S3 API: a second real S3, which does check signatures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from midstream._registry import Availability
from midstream.stores import Store
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._s3 import LAYOUTS, SMALL_PART, UPLOADS, Keys, RunningS3, operation
from midstream.stores._swift import KEPT_OPEN, KEY, S3_USER, SEAM, available, start_server


class SwiftS3(Store):
    """Swift by s3api; the access key is Swift's user, the secret its key."""

    id: ClassVar[str] = "swift-s3"
    summary: ClassVar[str] = "OpenStack Swift's S3 API in one process, signature version 4"
    kind: ClassVar[str] = "s3"
    signed: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    uploads: ClassVar[tuple[str, ...]] = UPLOADS
    part_size: ClassVar[int] = SMALL_PART
    leftovers: ClassVar[bool] = True
    under_way: ClassVar[Mapping[str, UnderWay]] = {
        "plain": KEPT_OPEN,
        "versioned": KEPT_OPEN,
        "multipart": UnderWay(Delivers.OLD, "s3api keeps the parts of an object it replaces (measured)"),
        "multipart delete": SEAM,
    }

    def available(self) -> Availability:
        return available()

    def start(self, folder: Path) -> RunningS3:
        server, own, version = start_server(self.id, folder)
        running = RunningS3(self.id, server, own, Keys(S3_USER, KEY), version)
        try:
            running.create_bucket()
        except BaseException:
            running.stop()
            raise
        return running

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return operation(method, target)


MEMBER = SwiftS3()
