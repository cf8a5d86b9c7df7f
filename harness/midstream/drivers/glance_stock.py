"""The store drivers that come with glance_store."""

from __future__ import annotations

from collections.abc import Mapping

from midstream.drivers._glance import GlanceDriver


class GlanceStock(GlanceDriver):
    id: str = "glance-stock"
    summary: str = "glance_store's own drivers for HTTP, S3 and Swift, read as Glance reads them"
    entries: Mapping[str, str] = {"http": "http", "s3": "s3", "swift": "swift"}


MEMBER = GlanceStock()
