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

    def expire(self, user: str, spare: str) -> None:
        """Forget the tokens of a user, or everybody's when there is none, other than the token `spare`."""
        prefix = "AUTH_/token/"  # swift.common.middleware.tempauth: expiry and groups by token
        for key in [k for k in self._values if k.startswith(prefix) and k != prefix + spare]:
            _, groups = self.get(key) or (0, "")
            if not user or user in groups.split(","):
                self.delete(key)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._values.pop(key, None)

    def set_multi(self, mapping: Mapping[str, Any], server_key: str, time: float = 0, **_: Any) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], server_key: str) -> list[Any]:
        return [self.get(key) for key in keys]


_now = time.monotonic
Application = Callable[[dict[str, Any], Callable[..., Any]], Any]


def with_memory(application: Application, memory: Memory) -> Application:
    """The application with a `Memory` where it looks for its memcache."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["swift.cache"] = memory
        return application(environ, start_response)

    return call


def with_control(application: Application, memory: Memory, path: str) -> Application:
    """The application, and at `path` a way to expire tokens: those of X-Auth-User, or all but the asker's."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != path:
            return application(environ, start_response)
        memory.expire(environ.get("HTTP_X_AUTH_USER", ""), environ.get("HTTP_X_AUTH_TOKEN", ""))
        start_response("204 No Content", [("Content-Length", "0")])
        return []

    return call


def log_to_stderr(
    conf: Mapping[str, str], name: str, console: bool, route: str, fmt: str, logger: logging.Logger, _: Any
) -> None:
    """A `log_custom_handlers` hook: Swift logs to syslog and nowhere else."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{route}: %(message)s"))
    logger.addHandler(handler)
