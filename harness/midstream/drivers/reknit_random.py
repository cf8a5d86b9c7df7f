"""reknit's random access: the object is read in blocks, in an order without order.

A caller of random access who meets another version has to begin anew, for what was read cannot be taken back;
and only who has read it all can compare digests. This one does both, as `reknit.download` would.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path

from midstream.drivers import Job
from midstream.drivers.reknit import Reknit

BLOCK, BLOCKS = 64 << 10, 8
RESTARTS = 2


class Random(Reknit):
    id: str = "reknit-random"
    summary: str = "reknit, reading an object through reknit.open in shuffled blocks"
    directions: frozenset[str] = frozenset({"download"})

    def download(self, job: Job) -> None:
        import reknit

        if job.dest.is_fifo():  # which has no places to write to
            super().download(job)
            return
        own = job.dest.with_name(f".{job.dest.name}.random")
        try:
            for left in range(RESTARTS, -1, -1):
                try:
                    self._read(job, own)
                    break
                except (reknit.Changed, reknit.Integrity):
                    if not left or self._said_so_at_once(job):
                        raise
            own.replace(job.dest)
        finally:
            own.unlink(missing_ok=True)

    def _said_so_at_once(self, job: Job) -> bool:
        """Whether it is said to have changed before a byte was read, and has not."""
        import reknit

        options = reknit.Options(**self.options(job))
        return not self.blocks and reknit.stat(job.native, options=options).etag == self.etag

    def _read(self, job: Job, own: Path) -> None:
        import reknit

        with reknit.open(job.native, options=reknit.Options(**self.options(job))) as reader:
            size, self.etag, self.blocks = reader.size, reader.stat.etag, 0
            end = size if job.length is None else min(size, job.first + job.length)
            if job.first and job.first >= size:
                raise reknit.Refused(f"the object has {size} bytes", 416)
            block = max(BLOCK, -(-(end - job.first) // BLOCKS))
            starts = list(range(job.first, end, block))
            random.Random(end).shuffle(starts)
            with own.open("w+b") as sink:
                for start in starts:
                    sink.seek(start - job.first)
                    sink.write(reader.read_range(start, min(block, end - start)))
                    self.blocks += 1
                if (job.first, end) == (0, size):
                    _verify(sink, reader.stat.digests)


def _verify(file: BufferedRandom, digests: Mapping[str, str]) -> None:
    import reknit

    for algorithm in {"md5", "sha1", "sha256", "sha512"} & set(digests):
        file.seek(0)
        if hashlib.file_digest(file, algorithm).hexdigest() != digests[algorithm]:
            raise reknit.Integrity(f"the bytes do not have the {algorithm} {digests[algorithm]}")


MEMBER = Random()
