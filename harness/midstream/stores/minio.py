"""MinIO: a real S3, of the last release with its source open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from midstream._parts import find
from midstream._registry import Availability
from midstream.stores import Store
from midstream.stores._hosted import start_s3
from midstream.stores._s3 import LAYOUTS, PART, UPLOADS, Keys, RunningS3, operation

KEYS = Keys("midstream", "midstream-secret")


class MinIO(Store):
    """One server, one folder; archived upstream, so it stays as it is."""

    id: ClassVar[str] = "minio"
    summary: ClassVar[str] = "MinIO, a real S3 (the last open release; archived upstream)"
    kind: ClassVar[str] = "s3"
    signed: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS
    uploads: ClassVar[tuple[str, ...]] = UPLOADS
    part_size: ClassVar[int] = PART
    leftovers: ClassVar[bool] = True
    # `under_way` is left open: under load one response of many ended short after a replacement.

    def available(self) -> Availability:
        return find(self.id).availability()

    def start(self, folder: Path) -> RunningS3:
        env = {
            "MINIO_ROOT_USER": KEYS.access,
            "MINIO_ROOT_PASSWORD": KEYS.secret,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",  # asks nobody for news
        }

        def arguments(own: Path) -> list[str]:
            where = ["--address", "127.0.0.1:{port}", "--certs-dir", str(own / "home")]
            return ["server", "--quiet", *where, str(own / "data")]

        return start_s3(self.id, folder, KEYS, arguments, env, "/minio/health/ready")

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        return operation(method, target)


MEMBER = MinIO()
