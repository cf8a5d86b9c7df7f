"""Resumable uploads by draft-ietf-httpbis-resumable-upload-12 (interop version 8), without any I/O.

Not implemented, being optional there: progress in 104 responses, and limits other than max-size and
max-append-size.
"""

from __future__ import annotations

import json
import re

from midstream._wire import Head
from midstream.stores._origin_answer import Answer, plain
from midstream.stores._origin_digests import declared, of_content
from midstream.stores._origin_uploads import Append, Commit, State, Upload, Uploads

INTEROP = "8"
MEDIA_TYPE = "application/partial-upload"
_PROBLEMS = "https://iana.org/assignments/http-problem-types#"


def boolean(value: str | None) -> bool | None:
    """A structured-field Boolean; None when the field is absent or, its value being another, ignored."""
    found = re.fullmatch(r"\s*\?([01])\s*(?:;.*)?", value or "")
    return found[1] == "1" if found else None


def integer(value: str | None) -> int | None:
    """A structured-field Integer of at least 0."""
    found = re.fullmatch(r"\s*(\d{1,15})\s*(?:;.*)?", value or "")
    return int(found[1]) if found else None


def says(value: bool) -> tuple[str, str]:
    return ("Upload-Complete", "?1" if value else "?0")


def problem(status: int, kind: str, title: str, *fields: tuple[str, str], **members: int) -> Answer:
    """A problem document (RFC 9457) of one of the draft's types."""
    names = {name.replace("_", "-"): value for name, value in members.items()}
    text = json.dumps({"type": _PROBLEMS + kind, "title": title, **names}).encode()
    return Answer(status, [("Content-Type", "application/problem+json"), *fields], text=text)


def inconsistent() -> Answer:
    return problem(400, "inconsistent-upload-length", "inconsistent length values for upload")


def limit_field(limits: dict[str, int]) -> tuple[str, str]:
    return ("Upload-Limit", ", ".join(f"{name}={value}" for name, value in limits.items()))


class Ietf:
    """The draft's server."""

    name = "ietf"

    def __init__(self, uploads: Uploads, commit: Commit) -> None:
        self._uploads = uploads
        self._commit = commit

    def begins(self, head: Head) -> bool:
        """Whether a request begins an upload here.

        One that has all its content and cannot be told of resumption falls back to a plain upload: the URI of
        its upload resource could only come in a 104, which it may not be sent.
        """
        complete = boolean(head.get("upload-complete"))
        return complete is False or (complete is True and self._interim(head))

    def _interim(self, head: Head) -> bool:
        return head.line.endswith("1.1") and head.get("upload-draft-interop-version") == INTEROP

    def create(self, head: Head, key: str, content: int | None) -> Answer | Append:
        """Upload Creation; `content` is the length of the request's content, None when in chunks."""
        completes = boolean(head.get("upload-complete")) is True
        lengths = {integer(head.get("upload-length")), content if completes else None} - {None}
        if len(lengths) > 1:
            return inconsistent()
        length = lengths.pop() if lengths else None
        limits = dict(self._uploads.limits(key))
        too_long = length is not None and length > limits["max-size"]
        if too_long or (content or 0) > limits.get("max-append-size", limits["max-size"]):
            return plain(413, limit_field(limits), detail="see Upload-Limit")
        upload = self._uploads.create(key, self.name, head, length)
        upload.digests = declared(head.get("repr-digest"))
        where = [("Location", upload.path), limit_field(limits)]
        interim = None
        if self._interim(head):
            interim = Answer(104, [*where, ("Upload-Draft-Interop-Version", INTEROP)])
        return self._append(upload, head, completes, Answer(201, [*where, says(False)]), interim)

    def _append(
        self, upload: Upload, head: Head, completes: bool, incomplete: Answer, interim: Answer | None = None
    ) -> Append:
        def finished() -> Answer:
            if not completes:
                fields = [*incomplete.fields, ("Upload-Offset", str(upload.offset))]
                return Answer(incomplete.status, fields)
            if upload.length not in (None, upload.offset):
                return inconsistent()
            upload.length = upload.offset
            answer = upload.complete(self._commit)
            fields = [*answer.fields, says(True)]
            if upload.creation.has("want-repr-digest") and answer.status < 300:
                fields.append(("Repr-Digest", f"sha-256=:{upload.received.digest('sha256')}:"))
            return Answer(answer.status, fields, text=answer.text)

        return Append(upload, upload.take_over(), finished, of_content(head), interim=interim)

    def at(self, upload: Upload, head: Head, content: int | None) -> Answer | Append:
        """A request to an upload resource."""
        method = head.request[0]
        upload.take_over()
        if upload.state is State.GONE:
            return plain(410)
        if method == "HEAD":
            return self._offset(upload)
        if method == "DELETE":
            upload.drop()
            return plain(204)
        if method == "PATCH":
            return self._patch(upload, head, content)
        return plain(405, ("Allow", "HEAD, PATCH, DELETE"))

    def _offset(self, upload: Upload) -> Answer:
        """Offset Retrieval."""
        fields = [
            says(upload.state is State.COMPLETE),
            ("Upload-Offset", str(upload.offset)),
            limit_field(dict(upload.limits)),
            ("Cache-Control", "no-store"),
        ]
        if upload.length is not None:
            fields.append(("Upload-Length", str(upload.length)))
        return Answer(204, fields)

    def _patch(self, upload: Upload, head: Head, content: int | None) -> Answer | Append:
        """Upload Append."""
        offset, completes = integer(head.get("upload-offset")), boolean(head.get("upload-complete"))
        if (head.get("content-type") or "").partition(";")[0].strip().lower() != MEDIA_TYPE:
            return plain(415, ("Accept-Patch", MEDIA_TYPE))
        if offset is None or completes is None:
            return plain(400, detail="Upload-Offset and Upload-Complete are needed")
        if upload.state is State.COMPLETE:
            if content != 0:
                return inconsistent()
            return problem(400, "completed-upload", "upload is already completed")
        if offset != upload.offset:
            return problem(
                409,
                "mismatching-upload-offset",
                "offset from request does not match offset of resource",
                ("Upload-Offset", str(upload.offset)),
                says(False),
                expected_offset=upload.offset,
                provided_offset=offset,
            )
        ends = offset + content if completes and content is not None else None
        lengths = {integer(head.get("upload-length")), ends, upload.length} - {None}
        if len(lengths) > 1:
            return inconsistent()
        if (content or 0) > upload.limits.get("max-append-size", upload.max_size):
            return plain(413, limit_field(dict(upload.limits)), detail="see Upload-Limit")
        upload.length = lengths.pop() if lengths else None
        return self._append(upload, head, completes, Answer(204, [says(False)]))
