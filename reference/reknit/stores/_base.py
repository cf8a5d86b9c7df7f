"""What every store answers with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from reknit._errors import CallerError


class Response(Protocol):
    """The head of an answer, and its body to be read."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case. `x-reknit-reason` is what the store's library says about an error;
    `x-reknit-error` is the error itself, in words, where the store has no status of its own."""

    def read(self, limit: int) -> bytes | memoryview:
        """What one network read gives, at most `limit` bytes; empty when the framing says the body is over.

        It is good until the read after the next: what is kept longer is copied.
        Raises StoreFault when it broke, was silent for the idle timeout, or ended early.
        """

    def close(self) -> None:
        """Drop the body and the connection. It does not raise."""


class Head:
    """An answer without a body to speak of."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status, self.headers = status, headers

    def read(self, limit: int) -> bytes | memoryview:
        """There is none."""
        return b""

    def close(self) -> None:
        """Nothing is open."""


def pinned(
    head: Mapping[str, str], first: int, last: int | None, etag: str | None
) -> tuple[int, dict[str, str], int]:
    """Status, fields and end of an answer in the words of HTTP, from a store that does not speak it.

    `head` names `content-length`, and `etag` where something pins the version. 412 when `etag` is another
    (RFC 9110 §13.1.1), 416 past the end (§15.5.17); both without a body.
    """
    total = int(head["content-length"])
    if etag is not None and etag != head.get("etag"):
        return 412, {}, first
    if not first and last is None:
        return 200, dict(head), total
    if first >= total:
        return 416, {"content-range": f"bytes */{total}"}, first
    end = total if last is None else min(last + 1, total)
    span = {"content-range": f"bytes {first}-{end - 1}/{total}", "content-length": str(end - first)}
    return 206, {**head, **span}, end


def settings(store: str, given: Mapping[str, str], names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """`given`, completed from the environment variables of each name. Raises CallerError for other names."""
    unknown = ", ".join(sorted(set(given) - set(names)))
    if unknown:
        raise CallerError(f"unknown {store} setting {unknown}: known are {', '.join(names)}")
    return {
        name: given.get(name) or next(filter(None, map(os.environ.get, variables)), "")
        for name, variables in names.items()
    }
