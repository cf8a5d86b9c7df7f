"""What a Swift in one process needs beside Swift: a memcache without memcached, and a log on stderr."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Memory:
    """The part of `swift.common.memcached.MemcacheRing` that the middleware of one process uses.

    Values go through JSON as they do there, so that nobody gets hold of an object another one changes.
    """

    def __init__(self) -> None:
        self._values: dict[str, tuple[str, float]] = {}

    def set(self, key: str, value: Any, serialize: bool = True, time: float = 0, **_: Any) -> None:
        self._values[key] = (json.dumps(value), _now() + time if time else float("inf"))

    def get(self, key: str, **_: Any) -> Any:
        value, until = self._values.get(key, ("null", float("inf")))
        if until < _now():
            self._values.pop(key, None)
            return None
        return json.loads(value)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -delta, time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._values.pop(key, None)

    def set_multi(self, mapping: Mapping[str, Any], server_key: str, time: float = 0, **_: Any) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], server_key: str) -> list[Any]:
        return [self.get(key) for key in keys]


_now = time.monotonic
Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


def with_memory(application: Application) -> Application:
    """The application with a `Memory` where it looks for its memcache."""
    memory = Memory()

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["swift.cache"] = memory
        return application(environ, start_response)

    return call


def log_to_stderr(
    conf: Mapping[str, str], name: str, console: bool, route: str, fmt: str, logger: logging.Logger, _: Any
) -> None:
    """A `log_custom_handlers` hook: Swift logs to syslog and nowhere else."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{route}: %(message)s"))
    logger.addHandler(handler)
