"""reknit, the reference client that comes with midstream."""

from __future__ import annotations

import importlib.metadata
import shutil
from typing import Any, ClassVar

from midstream.drivers import Job, PythonDriver


class Reknit(PythonDriver):
    id: str = "reknit"
    summary: str = "the reference client of this distribution, over the store's own protocol"
    kinds: ClassVar[frozenset[str]] = PythonDriver.kinds | {"gridfs", "rbd"}
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

    def upload(self, job: Job) -> None:
        import reknit

        assert job.source is not None
        # Its journal may stay, as `dest` lies in a folder of its own. Small objects go in several parts all
        # the same, large ones not in very many. Of a pipe nothing else tells that it ended early.
        size: dict[str, Any] = (
            {"part_size": max(job.part_size, (job.size or 0) // 8)} if job.part_size else {}
        )
        options = reknit.Options(**self.options(job), **size, journal=job.dest.parent)
        pipe = job.source.is_fifo()
        reknit.upload(job.source, job.native, size=job.size if pipe else None, options=options)


MEMBER = Reknit()
