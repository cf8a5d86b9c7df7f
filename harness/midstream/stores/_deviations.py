"""What real servers are known to do otherwise than the RFC says, each with where that is known from.

The facets are those of `midstream.testing.stores`, and `malformed-range`: a Range that does not read is
answered with 416 instead of being ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

IF_RANGE_IN_SWIFT = "swift.common.swob evaluates Range, never If-Range: a 206 for any value (measured)"
DEVIATIONS: Mapping[str, Mapping[str, str]] = {
    "minio": {
        "if-range": "cmd/object-handlers.go of RELEASE.2025-09-07 reads Range, never If-Range (measured)",
        "malformed-range": "cmd/httprange.go takes a range whose end lies before its start for one that "
        "cannot be satisfied (measured)",
    },
    "versitygw": {"if-range": "versitygw 1.8.0 reads Range without If-Range: a 206 for any value (measured)"},
    "nginx": {
        "malformed-range": "src/http/modules/ngx_http_range_filter_module.c, ngx_http_range_parse: what does "
        "not read is a range that cannot be satisfied (measured with 1.22.1)",
    },
    "swift-aio": {"if-range": IF_RANGE_IN_SWIFT},
    "external": {},
}
# Of the malformed ranges the contract tries, those that are answered with 416.
REFUSED_RANGES: Mapping[str, tuple[str, ...]] = {
    "minio": ("bytes=9-5",),
    "nginx": ("bytes=9-5", "bytes=a-b"),
}
