"""What the three drivers have in common: `get` and `get_size` by way of reknit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import glance_store
from glance_store import capabilities, driver, exceptions
from oslo_config import cfg

from reknit import stores
from reknit._body import Body, head
from reknit._errors import Exhausted, Refused, ReknitError
from reknit._options import Options
from reknit._ranges import Slice

OPTIONS = [
    cfg.IntOpt("reknit_attempts", default=6, min=0, help="Failures in a row without a new byte."),
    cfg.FloatOpt("reknit_idle_timeout", default=30.0, help="Seconds the store may stay silent."),
    cfg.FloatOpt("reknit_backoff_base", default=0.5, help="Seconds before the first retry, at most."),
]

# READ_OFFSET and READ_CHUNK tell Glance that it may ask for a part.
READS = capabilities.BitMasks.READ_RANDOM


class Reading:
    """A mixin over a driver; `_address` says where an object is for reknit."""

    conf: Any
    backend_group: str | None

    def _address(self, location: Any, context: Any) -> tuple[str, dict[str, Any]]:
        """The object's URL, and the fields of Options that lead to it."""
        raise NotImplementedError

    OPTIONS: ClassVar[list[Any]] = []

    @capabilities.check  # type: ignore[untyped-decorator]
    def get(self, location: Any, offset: int = 0, chunk_size: int | None = None, context: Any = None) -> Any:
        """An iterator over `chunk_size` bytes (None: all) from `offset` on, and how many there are.

        Raises NotFound, Forbidden, BadStoreUri and RemoteServiceUnavailable of glance_store, now or from the
        iterator, which ends only after all of its bytes.
        """
        store, options = self._open(location, context)
        body = Body(store, options, Slice(offset or 0, chunk_size or None))
        try:
            about, _ = body.open()
        except ReknitError as error:
            body.close()
            if isinstance(error, Refused) and error.status == 416:
                return Blocks(iter(()), 0), 0  # like the file driver: past the end is nothing
            raise told(error) from error
        except BaseException:
            body.close()
            raise
        size = body.part.size(about.total)
        return Blocks(_blocks(body, size), size or 0), size or 0

    def get_size(self, location: Any, context: Any = None) -> int:
        """How many bytes the object has; 0 when the store does not tell."""
        try:
            return head(*self._open(location, context))[0].total or 0
        except ReknitError as error:
            raise told(error) from error

    def _open(self, location: Any, context: Any) -> tuple[stores.Store, Options]:
        url, more = self._address(location.store_location, context)
        group = self.conf.glance_store
        if self.backend_group:  # with [backend_defaults] behind it
            group = driver.BackendGroupConfiguration(self.OPTIONS, self.backend_group, conf=self.conf)
        options = Options(
            attempts=group.reknit_attempts,
            idle_timeout=group.reknit_idle_timeout,
            backoff_base=group.reknit_backoff_base,
            **more,
        )
        return stores.open_store(url, options), options


class Blocks(glance_store.Indexable):  # type: ignore[misc]  # glance_store has no types
    """What Glance takes for an image's data: an iterator that `add` of another store can index, too."""

    def another(self) -> bytes:
        return next(self.wrapped, b"")


def _blocks(body: Body, size: int | None) -> Iterator[bytes]:
    try:
        for block in body.blocks(size):
            yield bytes(block)
    except ReknitError as error:
        raise told(error) from error
    finally:
        body.close()


def told(error: ReknitError) -> Exception:
    """The same in the words of glance_store."""
    text = str(error)
    match error:
        case Refused(status=404 | 410):
            found = exceptions.NotFound(message=text)
        case Refused(status=401 | 403):
            found = exceptions.Forbidden(message=text)
        case Refused():
            found = exceptions.BadStoreUri(message=text)
        case Exhausted():
            found = exceptions.RemoteServiceUnavailable(message=text)
        case _:
            found = exceptions.BackendException(text)
    return found  # type: ignore[no-any-return]
