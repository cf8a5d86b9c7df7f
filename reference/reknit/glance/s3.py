"""The driver `reknit-s3`, for images in S3 and what speaks like it."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from glance_store import capabilities
from glance_store._drivers import s3 as stock

from reknit.glance._reading import OPTIONS, READS, Reading

StoreLocation = stock.StoreLocation  # glance_store looks for it beside the driver


class Store(Reading, stock.Store):  # type: ignore[misc]  # glance_store has no types
    """Stands in for glance_store's `s3`."""

    _CAPABILITIES = READS | capabilities.BitMasks.RW_ACCESS
    OPTIONS: ClassVar[list[Any]] = [*stock.Store.OPTIONS, *OPTIONS]

    def _address(self, location: Any, context: Any) -> tuple[str, dict[str, Any]]:
        region = self._option_get("s3_store_region_name")
        amazon = stock.get_s3_location(self.full_s3_host)
        found = {
            "endpoint_url": "" if amazon and not region else self.full_s3_host,
            "region": region or amazon or "",
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "addressing": self._option_get("s3_store_bucket_url_format"),
        }
        url = f"s3://{location.bucket}/{quote(location.key)}"
        return url, {"store": {name: value for name, value in found.items() if value}}
