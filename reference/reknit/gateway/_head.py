"""The head of a response downstream. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from reknit._ranges import Slice
from reknit._representation import Representation
from reknit.gateway._judge import Decision

# What describes the object (RFC 9110 §8) and how to keep it. Everything else of the store's head is between
# it and us: request ids, cookies, metadata, whatever a link was signed with.
_PASSED = (
    "content-type",
    "content-encoding",
    "content-language",
    "content-disposition",
    "cache-control",
    "expires",
    "last-modified",
)
# RFC 9110 §15.4.5: what a 304 has to repeat, and no more.
_WITH_304 = ("cache-control", "expires")
# The names of RFC 9530 for what the package can compute.
_DIGESTS = {"sha512": "sha-512", "sha256": "sha-256", "sha1": "sha", "md5": "md5"}

Fields = list[tuple[str, str]]


def fields(decision: Decision, about: Representation, store: Mapping[str, str]) -> Fields:
    """The header fields of a 200, 206, 304, 412 or 416 about a version; `store` is the head it came with."""
    found: Fields = [("Accept-Ranges", "bytes")]
    if tag := about.etag or about.weak:
        found.append(("ETag", tag))
    if decision.status == 416:
        return [*found, ("Content-Range", f"bytes */{about.total}"), ("Content-Length", "0")]
    if decision.status == 412:
        return [*found, ("Content-Length", "0")]
    passed = _WITH_304 if decision.status == 304 else _PASSED
    found += [(name.title(), " ".join(store[name].split())) for name in passed if store.get(name)]
    if decision.status == 304 or decision.part is None:
        return found
    return found + _content(decision.status, decision.part, about)


def _content(status: int, part: Slice, about: Representation) -> Fields:
    found: Fields = []
    size = part.size(about.total)
    if status == 206 and size is not None:
        found.append(("Content-Range", f"bytes {part.first}-{part.first + size - 1}/{about.total}"))
    if size is not None:
        found.append(("Content-Length", str(size)))
    digests = [(_DIGESTS[d.algorithm], d.value) for d in about.digests if d.algorithm in _DIGESTS]
    if digests:
        # Of the whole representation, whichever part goes out (RFC 9530 §3).
        found.append(("Repr-Digest", ", ".join(f"{n}=:{_base64(v)}:" for n, v in digests)))
    for name, value in digests:
        if name == "md5" and status == 200:
            found.append(("Content-MD5", _base64(value)))  # of the content of this message (RFC 1864)
    return found


def _base64(value: str) -> str:
    return base64.b64encode(bytes.fromhex(value)).decode()
