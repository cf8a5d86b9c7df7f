"""One store for several threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from reknit._options import Options
from reknit._retry import RETRYABLE, retry_after
from reknit.stores._base import Response

if TYPE_CHECKING:
    from reknit.stores import Store


class Shared:
    """Passes everything on. What one thread is told, the others heed: one renews the credentials and all go
    on with what it got, and none asks before a Retry-After that another was answered with (§10.2.3).

    Stores keep no state but their credentials, and at most which version has which tag, of which no answer
    takes back another: nothing else needs a lock.
    """

    def __init__(self, store: Store, options: Options) -> None:
        self._store, self.identity, self.dialect = store, store.identity, store.dialect
        self._sleep, self._longest = options.sleep, options.retry_after_cap
        self._lock = threading.Lock()
        self._renewals = 0
        self._quiet = 0.0  # until when nobody asks, by the monotonic clock
        self._seen = threading.local()  # how many renewals had been when this thread asked

    def stat(self) -> Response:
        """See Store.stat."""
        return self._ask(self._store.stat)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """See Store.open_range."""
        return self._ask(lambda: self._store.open_range(first, last, etag))

    def renew(self) -> bool:
        """See Store.renew."""
        with self._lock:
            if self._renewals != getattr(self._seen, "renewals", self._renewals):
                return True  # the answer was to older credentials than there are now
            renewed = self._store.renew()
            self._renewals += renewed
            return renewed

    def _ask(self, call: Callable[[], Response]) -> Response:
        left = self._quiet - time.monotonic()
        if left > 0:
            self._sleep(left)
        self._seen.renewals = self._renewals
        answer = call()
        while answer.status == 401 and self._seen.renewals != self._renewals:
            answer.close()  # asked with credentials that another thread has renewed by now
            self._seen.renewals = self._renewals
            answer = call()
        if answer.status in RETRYABLE:
            seconds = min(retry_after(answer.headers, time.time()), self._longest)
            with self._lock:
                self._quiet = max(self._quiet, time.monotonic() + seconds)
        return answer
