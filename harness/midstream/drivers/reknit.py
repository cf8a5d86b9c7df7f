"""reknit, the reference client that comes with midstream."""

from __future__ import annotations

import importlib.metadata
import shutil
from typing import Any, ClassVar

from midstream.drivers import KINDS, Job, PythonDriver
from midstream.drivers._sending import part_size, store_settings


class Reknit(PythonDriver):
    id: str = "reknit"
    summary: str = "the reference client of this distribution, over the store's own protocol"
    kinds: ClassVar[frozenset[str]] = KINDS
    over_http: ClassVar[str] = "tus"  # of the ways to upload to an HTTP store
    parts: bool = True
    directions: frozenset[str] = frozenset({"download", "upload"})

    def version(self) -> str:
        return importlib.metadata.version("midstream")

    def load(self) -> None:
        import reknit  # noqa: F401

    def options(self, job: Job) -> dict[str, Any]:
        """As anybody would set them, but for waits that are short."""
        return {
            "idle_timeout": job.idle_timeout,
            "connect_timeout": 5.0,
            "backoff_base": 0.005,
            "backoff_cap": 0.2,
            "headers": job.headers,
        }

    def upload(self, job: Job) -> None:
        """By the protocol that is more than one PUT, where the store has one."""
        import reknit

        assert job.source
        more: dict[str, Any] = {
            "part_size": part_size(job),
            "store": store_settings(job, self.over_http),
            "keep": job.again,
            "journal": job.dest.parent,
        }
        options = reknit.Options(**self.options(job), **more)
        # Of a pipe nothing else tells that it ended early.
        size = job.size if job.source.is_fifo() else None
        reknit.upload(job.source, job.native, size=size, options=options)

    def download(self, job: Job) -> None:
        import reknit

        options = reknit.Options(**self.options(job))
        part: dict[str, Any] = {"first": job.first, "length": job.length}
        if job.dest.is_fifo():
            stream = reknit.open_stream(job.native, options=options, **part)
            with stream, job.dest.open("wb") as pipe:
                shutil.copyfileobj(stream, pipe, 1 << 18)
        else:
            reknit.download(job.native, job.dest, options=options, **part)


MEMBER = Reknit()
