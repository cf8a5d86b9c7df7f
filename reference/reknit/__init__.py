"""The small reference store client that survives dropped connections.

An interrupted download is continued at the current offset with a ranged request, and the remainder is
knitted onto what is there, if one strong validator or a digest proves that both are of one version of the
object.
"""

from reknit import resume
from reknit._client import Stream, download, open_stream, read_range, stat
from reknit._client import open_reader as open  # noqa: A004  # as in `reknit.open(url)`
from reknit._errors import (
    CallerError,
    Changed,
    Exhausted,
    Integrity,
    Refused,
    ReknitError,
    SinkError,
    SourceError,
)
from reknit._options import Options, Progress, Report, Stat, UploadReport
from reknit._reader import Reader
from reknit._upload import upload

__all__ = [
    "CallerError",
    "Changed",
    "Exhausted",
    "Integrity",
    "Options",
    "Progress",
    "Reader",
    "Refused",
    "ReknitError",
    "Report",
    "SinkError",
    "SourceError",
    "Stat",
    "Stream",
    "UploadReport",
    "download",
    "open",
    "open_stream",
    "read_range",
    "resume",
    "stat",
    "upload",
]
