"""reknit with several ranges at once, of objects of any size."""

from __future__ import annotations

from typing import Any

from midstream.drivers import Job
from midstream.drivers.reknit import Reknit


class Parallel(Reknit):
    id: str = "reknit-parallel"
    summary: str = "reknit, fetching three ranges of an object at once"
    directions: frozenset[str] = frozenset({"download"})

    def options(self, job: Job) -> dict[str, Any]:
        return {**super().options(job), "parallel": 3, "parallel_above": 1}


MEMBER = Parallel()
