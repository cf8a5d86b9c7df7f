"""reknit's random access: the object is read in blocks, in an order without order.

A caller of random access who meets another version has to begin anew, for what was read cannot be taken back.
That is what this one does, as often as `reknit.download` would.
"""

from __future__ import annotations

import random
from typing import Any

from midstream.drivers import Job
from midstream.drivers.reknit import Reknit

BLOCK = 64 << 10
RESTARTS = 2


class Random(Reknit):
    id: str = "reknit-random"
    summary: str = "reknit, reading an object through reknit.open in shuffled blocks"

    def download(self, job: Job) -> None:
        import reknit

        for left in range(RESTARTS, -1, -1):
            try:
                return self._read(job)
            except reknit.Changed:
                if not left:
                    raise
        return None

    def _read(self, job: Job) -> None:
        import reknit

        with reknit.open(job.native, options=reknit.Options(**self.options(job))) as reader:
            end = reader.size if job.length is None else min(reader.size, job.first + job.length)
            if job.first and job.first >= reader.size:
                raise reknit.Refused(f"the object has {reader.size} bytes", 416)
            starts: list[Any] = list(range(job.first, end, BLOCK))
            if not job.dest.is_fifo():
                random.Random(end).shuffle(starts)
            with job.dest.open("wb") as sink:
                for start in starts:
                    block = reader.read_range(start, min(BLOCK, end - start))
                    if not job.dest.is_fifo():
                        sink.seek(start - job.first)
                    sink.write(block)


MEMBER = Random()
