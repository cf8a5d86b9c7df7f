"""One store for several threads at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from reknit.stores._base import Response

if TYPE_CHECKING:
    from reknit.stores import Store


class Shared:
    """Passes everything on. One thread renews the credentials; the others go on with what it got.

    Stores keep no state but their credentials, so that nothing else needs a lock.
    """

    def __init__(self, store: Store) -> None:
        self._store, self.identity, self.dialect = store, store.identity, store.dialect
        self._lock = threading.Lock()
        self._renewals = 0
        self._seen = threading.local()  # how many renewals had been when this thread asked

    def stat(self) -> Response:
        """See Store.stat."""
        self._seen.renewals = self._renewals
        return self._store.stat()

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """See Store.open_range."""
        self._seen.renewals = self._renewals
        return self._store.open_range(first, last, etag)

    def renew(self) -> bool:
        """See Store.renew."""
        with self._lock:
            if self._renewals != getattr(self._seen, "renewals", self._renewals):
                return True  # the answer was to older credentials than there are now
            renewed = self._store.renew()
            self._renewals += renewed
            return renewed
