"""Payload transformers that several faults share."""

from __future__ import annotations

import re
from collections.abc import Callable

from midstream._verbs import Context
from midstream._wire import Head


class Patch:
    """Replaces `length` payload bytes at `at` by what `change` makes of them."""

    def __init__(self, at: int, length: int, change: Callable[[bytes], bytes]) -> None:
        self.touched = self.over = False
        self._at, self._length, self._change = at, length, change
        self._seen = 0
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        start, end = self._at, self._at + self._length
        first, self._seen = self._seen, self._seen + len(data)
        if first >= end or self._seen <= start:
            return data
        before = data[: max(0, start - first)]
        self._kept += data[max(0, start - first) : max(0, end - first)]
        after = data[max(0, end - first) :]
        return before + (self._flush() if self._seen >= end else b"") + after

    def _flush(self) -> bytes:
        kept, self._kept = self._kept, b""
        if not kept:
            return b""
        changed = self._change(kept)
        self.touched = self.touched or changed != kept
        return changed

    def end(self) -> bytes:
        return self._flush()


class Cutoff:
    """Lets `length` payload bytes through and then ends the body."""

    def __init__(self, length: int) -> None:
        self.touched = self.over = False
        self._left = length

    def feed(self, data: bytes) -> bytes:
        out = data[: self._left]
        self._left -= len(out)
        if self._left == 0:
            self.touched = self.over = True
        return out

    def end(self) -> bytes:
        return b""


def same_head(context: Context, more: int = 0) -> Head | None:
    """The head as it is, when the position lies in an object's payload and over `more` bytes follow it."""
    if context.at is None or context.base is None:
        return None
    return context.head if context.length is None or context.at + more < context.length else None


def shorter_head(context: Context, by: int) -> Head | None:
    """The head with a Content-Length that is smaller by `by`."""
    if same_head(context) is None or context.length is None:
        return None
    return context.head.with_field("Content-Length", str(max(0, context.length - by)))


def count(text: str | None, default: int, what: str) -> int:
    """A positive byte count; raises ValueError."""
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,15}", text) or not int(text):
        raise ValueError(f"{what} takes a number of bytes, not {text!r}")
    return int(text)
