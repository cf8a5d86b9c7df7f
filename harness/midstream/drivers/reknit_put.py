"""reknit, uploading by a plain PUT, as it does to an HTTP store that it is told nothing of."""

from __future__ import annotations

from typing import ClassVar

from midstream.drivers.reknit import Reknit


class ByPut(Reknit):
    id: str = "reknit-put"
    summary: str = "reknit, uploading to HTTP stores by one PUT"
    kinds: ClassVar[frozenset[str]] = frozenset({"http"})
    over_http: ClassVar[str] = "put"
    directions: frozenset[str] = frozenset({"upload"})


MEMBER = ByPut()
