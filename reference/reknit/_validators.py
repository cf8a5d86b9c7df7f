"""Entity tags (RFC 9110 §8.8): which of them pins one version of the bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ETAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def strong_etag(headers: Mapping[str, str]) -> str | None:
    """The strong entity tag with its quotes, or None.

    A weak tag promises equivalence, not equal bytes (§8.8.1), so it can neither be sent in If-Range (§13.1.5)
    nor bind two ranges. A bare tag without quotes, as Swift sends, is read as a strong one.
    """
    value = headers.get("etag", "").strip()
    if not value or value.startswith("W/"):
        return None
    if _ETAG.fullmatch(value):
        return value
    return None if '"' in value else f'"{value}"'


def differs(earlier: str, later: str) -> bool:
    """Whether two validator values are both there and not the same."""
    return bool(earlier and later and earlier != later)
