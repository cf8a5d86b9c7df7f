"""The sink of a client that keeps nothing: the file is there when all of it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from midstream.drivers import Job


@contextmanager
def receiving(job: Job) -> Iterator[IO[bytes]]:
    """What to write the body to; it comes under the final name unless the block raises.

    Until then it has no name, so that whoever is killed in between leaves nothing behind.
    """
    if job.dest.is_fifo():
        with job.dest.open("wb") as pipe:
            yield pipe
        return
    with tempfile.TemporaryFile() as spool:
        yield spool
        spool.seek(0)
        whole = job.dest.with_name(f".{job.dest.name}.{os.getpid()}")
        try:
            with whole.open("wb") as file:
                shutil.copyfileobj(spool, file, 1 << 20)
            whole.rename(job.dest)
        finally:
            whole.unlink(missing_ok=True)
