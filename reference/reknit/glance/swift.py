"""The driver `reknit-swift`, for images in Swift; login, and its renewal, are glance_store's."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from glance_store import capabilities
from glance_store._drivers.swift import store as stock

from reknit.glance._reading import OPTIONS, READS, Reading

StoreLocation = stock.StoreLocation  # glance_store looks for it beside the driver


class _Reading(Reading):
    _CAPABILITIES = READS | capabilities.BitMasks.RW_ACCESS
    OPTIONS: ClassVar[list[Any]] = [*stock.BaseStore.OPTIONS, *OPTIONS]
    get_manager: Any

    def get(
        self,
        location: Any,
        connection: Any = None,
        offset: int = 0,
        chunk_size: int | None = None,
        context: Any = None,
    ) -> Any:
        """See Reading. `connection` is what glance_store's has there, and is not used there either."""
        return Reading.get(self, location, offset, chunk_size, context)

    def get_size(  # type: ignore[override]
        self, location: Any, connection: Any = None, context: Any = None
    ) -> int:
        """See Reading."""
        return Reading.get_size(self, location, context)

    def _address(self, location: Any, context: Any) -> tuple[str, dict[str, Any]]:
        def login() -> dict[str, str]:
            with self.get_manager(location, context) as manager:
                connection = manager.get_connection()
                return {"storage_url": connection.url, "token": connection.token or ""}

        url = f"swift://{location.container}/{quote(location.obj)}"
        return url, {"store": login(), "renew": login}


class SingleTenant(_Reading, stock.SingleTenantStore):  # type: ignore[misc]  # glance_store has no types
    """All images in one account."""


class MultiTenant(_Reading, stock.MultiTenantStore):  # type: ignore[misc]  # glance_store has no types
    """Each image in the account of its owner."""


def Store(conf: Any, backend: str | None = None) -> Any:  # noqa: N802  # glance_store's name
    """Stands in for glance_store's `swift`: the one for one account or for many, as configured."""
    many = isinstance(stock.Store(conf, backend=backend), stock.MultiTenantStore)  # which checks the choice
    return (MultiTenant if many else SingleTenant)(conf, backend=backend)


Store.OPTIONS = _Reading.OPTIONS  # type: ignore[attr-defined]  # where glance_store looks for them
