"""URLs as they may be shown and written down."""

from __future__ import annotations

import re


def shown(url: str) -> str:
    """Without name, password, query and fragment: a signature in the query is nobody's business, either."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([a-z0-9+.-]+://)[^/]*@", r"\1", bare, flags=re.IGNORECASE)
