"""The driver `reknit-http`, for images behind an HTTP URL.

TLS trust and proxies come from the environment, as everywhere in reknit: certificates are verified whatever
`https_insecure` says.
"""

from __future__ import annotations

from typing import Any, ClassVar

from glance_store import capabilities
from glance_store._drivers import http as stock

from reknit.glance._reading import OPTIONS, READS, Reading

StoreLocation = stock.StoreLocation  # glance_store looks for it beside the driver


class Store(Reading, stock.Store):  # type: ignore[misc]  # glance_store has no types
    """Stands in for glance_store's `http`."""

    _CAPABILITIES = READS | capabilities.BitMasks.DRIVER_REUSABLE
    OPTIONS: ClassVar[list[Any]] = [*stock.Store.OPTIONS, *OPTIONS]

    def _address(self, location: Any, context: Any) -> tuple[str, dict[str, Any]]:
        return location.get_uri(), {}
