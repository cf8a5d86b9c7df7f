"""reknit, uploading by the IETF's protocol where reknit's own driver uploads by tus."""

from __future__ import annotations

from typing import ClassVar

from midstream.drivers.reknit import Reknit


class ByIetf(Reknit):
    id: str = "reknit-ietf"
    summary: str = "reknit, uploading to HTTP stores by draft-ietf-httpbis-resumable-upload"
    kinds: ClassVar[frozenset[str]] = frozenset({"http"})
    over_http: ClassVar[str] = "ietf"
    directions: frozenset[str] = frozenset({"upload"})


MEMBER = ByIetf()
