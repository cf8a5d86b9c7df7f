"""Resumable uploads by tus 1.0.0 (tus.io/protocols/resumable-upload): requests to answers, no I/O.

Extensions: creation, creation-with-upload, creation-defer-length, termination, checksum. The URL that an
upload is created at names the object it becomes; where it ends with a slash, the file name of Upload-Metadata
is added.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import replace

from midstream._wire import Head
from midstream.stores._origin_answer import Answer, plain
from midstream.stores._origin_digests import ALGORITHMS
from midstream.stores._origin_uploads import MAX_SIZE, Append, Commit, State, Upload, Uploads

VERSION = "1.0.0"
MEDIA_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460
_OURS = ("Tus-Resumable", VERSION)
DISCOVERY = [
    _OURS,
    ("Tus-Version", VERSION),
    ("Tus-Extension", "creation,creation-with-upload,creation-defer-length,termination,checksum"),
    ("Tus-Checksum-Algorithm", "md5,sha1,sha256"),
    ("Tus-Max-Size", str(MAX_SIZE)),
]


def number(value: str | None) -> int | None:
    return int(value) if value and re.fullmatch(r"\d{1,18}", value) else None


def file_name(metadata: str | None) -> str | None:
    """The `filename` of an Upload-Metadata field."""
    for pair in (metadata or "").split(","):
        name, _, value = pair.strip().partition(" ")
        if name == "filename":
            try:
                return base64.b64decode(value, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                return None
    return None


class Tus:
    """The server side of tus."""

    name = "tus"

    def __init__(self, uploads: Uploads, commit: Commit) -> None:
        self._uploads = uploads
        self._commit = commit

    def begins(self, head: Head) -> bool:
        return head.request[0] == "POST" and head.has("tus-resumable")

    def create(self, head: Head, key: str, content: int | None) -> Answer | Append:
        """Creation, with the first content where there is some."""
        if refusal := _wrong_version(head):
            return refusal
        length, deferred = number(head.get("upload-length")), head.get("upload-defer-length") == "1"
        if (length is None) != deferred:
            return _tus(plain(400, detail="either Upload-Length or Upload-Defer-Length: 1 is needed"))
        if length is not None and length > self._uploads.limits(key)["max-size"]:
            return _tus(plain(413))
        if content != 0 and not _is_patch(head):
            return _tus(plain(415))
        upload = self._uploads.create(key, self.name, head, length)
        if key.endswith("/") or not key:
            upload.key = key + (file_name(head.get("upload-metadata")) or upload.id)
        return self._append(upload, head, Answer(201, [("Location", upload.path)]))

    def at(self, upload: Upload, head: Head, content: int | None) -> Answer | Append:
        """A request to an upload."""
        if refusal := _wrong_version(head):
            return refusal
        method = head.request[0]
        upload.take_over()
        if upload.state is State.GONE:
            return _tus(plain(410))
        if method == "DELETE":
            upload.drop()
            return _tus(plain(204))
        # The last byte may have come in a request that broke off behind it, for want of its last chunk.
        if refusal := self._completed(upload):
            return _tus(refusal)
        if method == "HEAD":
            return _tus(self._offset(upload))
        if method == "PATCH":
            return self._patch(upload, head)
        return _tus(plain(405, ("Allow", "HEAD, PATCH, DELETE")))

    def _completed(self, upload: Upload) -> Answer | None:
        """Make the object once all its bytes are here; the answer when that fails."""
        if upload.state is not State.OPEN or upload.offset != upload.length:
            return None
        made = upload.complete(self._commit)
        return made if made.status >= 300 else None

    def _offset(self, upload: Upload) -> Answer:
        fields = [("Upload-Offset", str(upload.offset)), ("Cache-Control", "no-store")]
        if upload.length is None:
            fields.append(("Upload-Defer-Length", "1"))
        else:
            fields.append(("Upload-Length", str(upload.length)))
        if metadata := upload.creation.get("upload-metadata"):
            fields.append(("Upload-Metadata", metadata))
        return Answer(200, fields)

    def _patch(self, upload: Upload, head: Head) -> Answer | Append:
        if not _is_patch(head):
            return _tus(plain(415))
        offset, length = number(head.get("upload-offset")), number(head.get("upload-length"))
        if offset is None:
            return _tus(plain(400, detail="Upload-Offset is needed"))
        if offset != upload.offset:
            return _tus(plain(409, ("Upload-Offset", str(upload.offset))))
        if length is not None:
            if upload.length not in (None, length) or length < offset:
                return _tus(plain(400, detail="Upload-Length cannot change"))
            upload.length = length
        return self._append(upload, head, Answer(204))

    def _append(self, upload: Upload, head: Head, answer: Answer) -> Answer | Append:
        wanted = {}
        if (checksum := head.get("upload-checksum")) is not None:
            name, _, digest = checksum.partition(" ")
            if name not in ("md5", "sha1", "sha256"):
                return _tus(plain(400, detail=f"checksum algorithm {name}"))
            wanted = {ALGORITHMS[name]: digest.strip()}

        def finished() -> Answer:
            if refusal := self._completed(upload):
                return refusal
            return replace(answer, fields=[*answer.fields, ("Upload-Offset", str(upload.offset))])

        turn = upload.take_over()
        return Append(upload, turn, finished, wanted, dress=_tus, mismatch_status=CHECKSUM_MISMATCH)


def _tus(answer: Answer) -> Answer:
    return replace(answer, fields=[_OURS, *answer.fields])


def _wrong_version(head: Head) -> Answer | None:
    if head.get("tus-resumable") == VERSION:
        return None
    return _tus(plain(412, ("Tus-Version", VERSION)))


def _is_patch(head: Head) -> bool:
    return (head.get("content-type") or "").partition(";")[0].strip().lower() == MEDIA_TYPE
