"""The small reference store client that survives dropped connections.

An interrupted download is continued at the current offset with a ranged request, and the remainder is
knitted onto what is there, if one strong validator or a digest proves that both are of one version of the
object.
"""

from reknit._client import Stream, download, open_stream, stat
from reknit._errors import (
    CallerError,
    Changed,
    Exhausted,
    Integrity,
    Refused,
    ReknitError,
    SinkError,
)
from reknit._options import Options, Progress, Report, Stat

__all__ = [
    "CallerError",
    "Changed",
    "Exhausted",
    "Integrity",
    "Options",
    "Progress",
    "Refused",
    "ReknitError",
    "Report",
    "SinkError",
    "Stat",
    "Stream",
    "download",
    "open_stream",
    "stat",
]
