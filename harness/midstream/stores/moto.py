"""moto's S3 server: an S3 in memory, quick to start."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from midstream._registry import Availability
from midstream.stores import Store
from midstream.stores._changes import Delivers, UnderWay
from midstream.stores._s3 import LAYOUTS, SMALL_PART, UPLOADS, Keys, RunningS3, operation
from midstream.stores._starting import installed, own_folder, require, start

KEYS = Keys("MIDSTREAMACCESSKEY", "midstream-secret-key")


class Moto(Store):
    """S3 as moto has it: keeps objects in memory, checks no signature, closes after each response."""

    id: ClassVar[str] = "moto"
    summary: ClassVar[str] = "S3 in memory (moto server), signature not checked"
    kind: ClassVar[str] = "s3"
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    uploads: ClassVar[tuple[str, ...]] = UPLOADS
    part_size: ClassVar[int] = SMALL_PART
    leftovers: ClassVar[bool] = True
    under_way: ClassVar[Mapping[str, UnderWay]] = dict.fromkeys(
        LAYOUTS,
        UnderWay(Delivers.OLD, "moto 5.2 reads an object whole before it sends a byte (measured)"),
    )

    def available(self) -> Availability:
        return installed("moto", "moto", ("moto", "flask", "flask_cors", "werkzeug", "boto3"))

    def start(self, folder: Path) -> RunningS3:
        available = self.available()
        require(self.id, available)
        own = own_folder(self.id, folder)
        server = start(self.id, "midstream.stores._moto_server", own)
        running = RunningS3(self.id, server, own, KEYS, available.version)
        try:
            running.create_bucket()
        except BaseException:
            running.stop()
            raise
        return running

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return operation(method, target)


MEMBER = Moto()
