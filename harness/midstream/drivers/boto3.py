"""boto3's transfer manager, the client most Python programs upload to S3 with."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any, ClassVar

from midstream._registry import Availability
from midstream.drivers import Job, PythonDriver


class Boto3(PythonDriver):
    id: str = "boto3"
    summary: str = "boto3's transfer manager with its own settings, uploads to S3"
    kinds: ClassVar[frozenset[str]] = frozenset({"s3"})
    directions: frozenset[str] = frozenset({"upload"})

    def available(self) -> Availability:
        if importlib.util.find_spec("boto3") is None:
            return Availability(False, "not installed: boto3", "pip install 'midstream[s3]'")
        return Availability(version=self.version())

    def version(self) -> str:
        try:
            return importlib.metadata.version("boto3")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def load(self) -> None:
        import boto3  # noqa: F401

    def upload(self, job: Job) -> None:
        """Files by upload_file, pipes by upload_fileobj; parts and retries are boto3's own affair."""
        client = self._client(job)
        bucket, _, key = job.native.removeprefix("s3://").partition("/")
        try:
            if job.source and job.source.is_fifo():
                with job.source.open("rb") as pipe:
                    client.upload_fileobj(pipe, bucket, key)
            else:
                client.upload_file(str(job.source), bucket, key)
        finally:
            client.close()

    def _client(self, job: Job) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=job.idle_timeout,
            s3={"addressing_style": "path"},
        )
        return boto3.session.Session().client("s3", config=config)


MEMBER = Boto3()
