"""The stores, and the seam they all fit. A new store is one new file here that names its SCHEMES."""

from __future__ import annotations

import importlib
import pkgutil
from functools import lru_cache
from typing import Protocol, cast
from urllib.parse import urlsplit

from reknit._errors import CallerError
from reknit._options import Options
from reknit._representation import Dialect
from reknit.stores._base import Response
from reknit.stores._uploader import Body, Uploader

__all__ = ["Body", "Response", "Store", "StoreModule", "Uploader", "open_store", "open_uploader"]


class Store(Protocol):
    """One object in one store. Every method may raise StoreFault, which the machine answers by its policy.
    Nothing stays open between two answers.

    A status is an answer, not a fault: 404 and 503 are returned. Nothing is retried at this level: one layer
    retries (RFC 9110 §9.2.2), and it is the one above.
    """

    identity: str
    """Names the object beside a partial; holds no secret."""
    dialect: Dialect

    def stat(self) -> Response:
        """The head of the object (HEAD or the like)."""

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """GET bytes `first`..`last` (None: to the end) if `etag` holds; the plain whole for 0 and None."""

    def renew(self) -> bool:
        """Fetch new credentials, or a new link; False when there are none to be had."""


class StoreModule(Protocol):
    """What a module in this package offers. One that takes uploads has an `uploader`, too (_uploader)."""

    SCHEMES: tuple[str, ...]

    def connect(self, url: str, options: Options) -> Store:
        """Prepare for the object at `url`; no traffic yet. Raises CallerError for a bad URL or setting."""


def open_store(url: str, options: Options) -> Store:
    """The store for `url`, by its scheme. Raises CallerError when no store knows it."""
    return _module(url).connect(url, options)


def open_uploader(url: str, options: Options) -> Uploader:
    """The one who takes the object at `url`. Raises CallerError when nobody does."""
    module = _module(url)
    make = getattr(module, "uploader", None)
    if make is None:
        raise CallerError(f"nothing can be uploaded to {module.SCHEMES[0]}://")
    return cast("Uploader", make(url, options))


def _module(url: str) -> StoreModule:
    try:
        scheme = urlsplit(url).scheme.lower()
    except ValueError as error:
        raise CallerError(f"not a URL: {error}") from None
    module = _find(scheme)
    if module is None:
        raise CallerError(
            f"no store for {scheme or 'a URL without a scheme'}: known are {', '.join(sorted(_schemes()))}"
        )
    return module


@lru_cache(maxsize=64)
def _find(scheme: str) -> StoreModule | None:
    # The file of that name is tried first, so that s3:// does not load what only http:// needs.
    names = sorted(_names(), key=lambda name: name != scheme)
    return next((module for module in map(_load, names) if scheme in module.SCHEMES), None)


def _names() -> list[str]:
    return [found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_")]


def _load(name: str) -> StoreModule:
    return cast("StoreModule", importlib.import_module(f"{__name__}.{name}"))


def _schemes() -> set[str]:
    return {scheme for name in _names() for scheme in _load(name).SCHEMES}
