"""What a request to upload means, by draft-ietf-httpbis-resumable-upload-12 (interop version 8). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

INTEROP = "8"
MEDIA_TYPE = "application/partial-upload"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not, and the status for that."""

    status: int
    why: str


@dataclass(frozen=True, slots=True)
class Append:
    """Take the content; it `completes` the upload or not, which has `length` bytes in all (None: unknown)."""

    completes: bool
    length: int | None


def boolean(value: str | None) -> bool | None:
    """A structured-field Boolean; None when the field is absent, or another value, which is ignored."""
    found = re.fullmatch(r"\s*\?([01])\s*(?:;.*)?", value or "")
    return found[1] == "1" if found else None


def integer(value: str | None) -> int | None:
    """A structured-field Integer of at least 0."""
    found = re.fullmatch(r"\s*([0-9]{1,15})\s*(?:;.*)?", value or "")
    return int(found[1]) if found else None


def said(value: bool) -> tuple[str, str]:
    """Upload-Complete."""
    return ("Upload-Complete", "?1" if value else "?0")


def interim(headers: Mapping[str, str], version: str) -> bool:
    """Whether a client can be told of the upload resource before its content has come (104)."""
    return version == "HTTP/1.1" and headers.get("upload-draft-interop-version") == INTEROP


def creation(headers: Mapping[str, str], content: int | None) -> Append | Refusal:
    """Upload Creation; `content` is the length of this request's, None in chunks. Without the field, a plain
    PUT: all of it in one.
    """
    completes = boolean(headers.get("upload-complete")) is not False
    return _lengths(headers, completes, 0, content, None)


def append(
    headers: Mapping[str, str], content: int | None, offset: int, length: int | None, *, stored: bool
) -> Append | Refusal:
    """Upload Append to a resource that has `offset` bytes."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return Refusal(415, f"an append is {MEDIA_TYPE}")
    at, completes = integer(headers.get("upload-offset")), boolean(headers.get("upload-complete"))
    if at is None or completes is None:
        return Refusal(400, "Upload-Offset and Upload-Complete are needed")
    if stored:
        return Refusal(400, "the upload is completed")
    if at != offset:
        return Refusal(409, f"the upload has {offset} bytes, not {at}")
    return _lengths(headers, completes, offset, content, length)


def _lengths(
    headers: Mapping[str, str], completes: bool, offset: int, content: int | None, known: int | None
) -> Append | Refusal:
    ends = offset + content if completes and content is not None else None
    named = {integer(headers.get("upload-length")), ends, known} - {None}
    length = max((n for n in named if n is not None), default=None)
    if len(named) > 1 or (length is not None and offset + (content or 0) > length):
        return Refusal(400, "the lengths of the upload do not agree")
    return Append(completes, length)
