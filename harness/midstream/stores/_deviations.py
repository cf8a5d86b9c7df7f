"""What real servers are known to do otherwise than the RFC says, each with where that is known from."""

from __future__ import annotations

from collections.abc import Mapping

DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "minio": {},
    "versitygw": {},
    "nginx": {},
    "swift-aio": {},
}
