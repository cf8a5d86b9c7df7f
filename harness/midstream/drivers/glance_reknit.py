"""The store drivers for Glance that read with reknit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midstream.drivers import Job
from midstream.drivers._glance import GlanceDriver


class GlanceReknit(GlanceDriver):
    id: str = "glance-reknit"
    summary: str = "reknit's store drivers for Glance, in glance_store, read as Glance reads them"
    entries: Mapping[str, str] = {"http": "reknit-http", "s3": "reknit-s3", "swift": "reknit-swift"}

    def patience(self, job: Job) -> dict[str, Any]:
        return {"reknit_idle_timeout": job.idle_timeout, "reknit_backoff_base": 0.005}


MEMBER = GlanceReknit()
