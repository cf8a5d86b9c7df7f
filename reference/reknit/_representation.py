"""What is known about the one version of the object that a transfer is bound to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from reknit._checksums import Digest, offered
from reknit._ranges import ContentRange
from reknit._validators import differs, strong_etag


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of store speaks: which condition protects a resume, and what its ETag and coding mean."""

    condition: str
    """`If-Match`, or `If-Range` where a changed object should come whole in the same round trip."""
    etag_is_md5: Callable[[Mapping[str, str]], bool] = lambda headers: False
    stored_coding: bool = False
    """Content-Encoding is metadata of the stored bytes (S3, Swift), not something done on the way."""


class Match(Enum):
    """How a later answer relates to the version at hand."""

    SAME = "same"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Representation:
    """The first answer's identity (RFC 9110 §8): everything a continuation must agree with."""

    total: int | None = None
    etag: str | None = None
    """The strong entity tag with its quotes."""
    weak: str = ""
    """A weak tag or version: may prove a change, never a match."""
    modified: str = ""
    media: str = ""
    coding: str = ""
    digests: tuple[Digest, ...] = ()

    @classmethod
    def read(
        cls, headers: Mapping[str, str], dialect: Dialect, span: ContentRange | None = None
    ) -> Representation:
        """Take the identity from the head of a 200, or of a 206 that holds `span`."""
        etag = strong_etag(headers)
        return cls(
            total=span.total if span else content_length(headers),
            etag=etag,
            weak=headers.get("etag", "") if etag is None else "",
            modified=headers.get("last-modified", ""),
            media=media_type(headers),
            coding=content_coding(headers),
            digests=offered(headers, etag_is_md5=dialect.etag_is_md5(headers), part=span is not None),
        )

    def match(self, headers: Mapping[str, str]) -> Match:
        """Compare the validators of a later answer with ours (RFC 9110 §15.3.7.3: strong comparison)."""
        etag = strong_etag(headers)
        if self.etag is not None and etag is not None:
            return Match.SAME if etag == self.etag else Match.CHANGED
        weak = headers.get("etag", "") if etag is None else ""
        if self.etag is None and (
            differs(self.weak, weak) or differs(self.modified, headers.get("last-modified", ""))
        ):
            return Match.CHANGED
        return Match.UNKNOWN

    def sized(self, total: int | None) -> Representation:
        """The same with its total filled in, once a later answer has told it."""
        return self if self.total is not None or total is None else replace(self, total=total)


def answered(status: int, headers: Mapping[str, str]) -> str:
    """What an answer says went wrong: in words alone where the store has no status, and it is one of ours."""
    if words := headers.get("x-reknit-error", ""):
        return words
    reason = headers.get("x-reknit-reason", "")
    return f"status {status}{f' ({reason})' if reason else ''}"


def refusal(status: int, headers: Mapping[str, str]) -> str:
    """The same as a sentence."""
    said = answered(status, headers)
    return said if "x-reknit-error" in headers else f"the store answered {said}"


def content_length(headers: Mapping[str, str]) -> int | None:
    """The body length an answer announces; Transfer-Encoding overrides it (RFC 9112 §6.3)."""
    value = headers.get("content-length", "").strip()
    return int(value) if value.isdecimal() and not is_chunked(headers) else None


def is_chunked(headers: Mapping[str, str]) -> bool:
    """Whether the body ends with a last chunk rather than a length or the connection."""
    return bool(headers.get("transfer-encoding", "").strip())


def media_type(headers: Mapping[str, str]) -> str:
    """The media type without its parameters, lower case."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def content_coding(headers: Mapping[str, str]) -> str:
    """The content coding, empty for identity."""
    coding = headers.get("content-encoding", "").strip().lower()
    return "" if coding in ("identity", "aws-chunked") else coding
