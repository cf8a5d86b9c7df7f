"""May this answer be joined to what the sink holds? Pure functions, one clause of RFC 9110 per branch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from reknit._ranges import parse_content_range
from reknit._representation import (
    Dialect,
    Match,
    Representation,
    content_coding,
    content_length,
    media_type,
)


class Verdict(Enum):
    """What to do with an answer of status 200 or 206."""

    FRESH = "a whole representation: begin at zero"
    JOIN = "the missing bytes: append them"
    SKIP = "the whole of the version at hand: drop the prefix, append the rest"
    REPLACED = "another version of the object"
    UNUSABLE = "not an answer to what was asked"
    ENCODED = "content-coded on the way, though identity was asked for"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, why, and for the usable ones the version and how many body bytes may be taken."""

    verdict: Verdict
    why: str = ""
    representation: Representation | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What the sink holds: `count` bytes of `representation`, up to `position` of the object.

    `provable`: a digest of the whole object will be verified, so bytes may be joined without a strong tag.
    `earlier` is the last version seen, even if nothing of it is held any more. `asked` is the range that was
    asked for, its last position None for the end; None for a plain GET.
    """

    count: int
    position: int
    representation: Representation | None
    earlier: Representation | None
    provable: bool
    rewindable: bool
    asked: tuple[int, int | None] | None


def judge_partial(headers: Mapping[str, str], held: Held, dialect: Dialect) -> Judgement:
    """Judge a 206. "A client MUST inspect Content-Type and Content-Range" (RFC 9110 §15.3.7)."""
    if held.asked is None:
        return _unusable("206 to a request without Range")
    first, last = held.asked
    if media_type(headers) == "multipart/byteranges":
        return _unusable("206 with multipart/byteranges to a single range (§15.3.7.2)")
    span = parse_content_range(headers.get("content-range"))
    if span is None or span.first < 0:
        return _unusable(f"206 with Content-Range {headers.get('content-range')!r} (§14.4)")
    ours = held.representation
    if ours is None:
        # Nothing to compare it with yet: it pins what the later ones must match.
        ours = Representation.read(headers, dialect, span)
        if ours.coding and not dialect.stored_coding:
            return _encoded(ours.coding)
    else:
        match = ours.match(headers)
        if match is Match.CHANGED:
            return Judgement(Verdict.REPLACED, "the 206 is of another version (§15.3.7.3)")
        if match is Match.UNKNOWN and not held.provable:
            return _unusable("206 without the entity tag that §15.3.7 requires")
    if content_coding(headers) != ours.coding:
        return _unusable(f"206 in coding {content_coding(headers)!r}: its ranges count other bytes (§14.1.2)")
    if span.first != first or (last is not None and span.last > last):
        return _unusable(f"206 of {span.first}-{span.last} where {first}-{last or ''} was asked for")
    if ours.total is not None and (span.last >= ours.total or span.total not in (None, ours.total)):
        return _unusable(f"206 of {span.total} bytes where the object has {ours.total}")
    if content_length(headers) not in (None, span.size):
        return _unusable(f"206 whose Content-Length is not the {span.size} bytes of its range (§14.4)")
    # A shorter range than asked for is honest (§15.3.7): the machine asks for the rest.
    return Judgement(Verdict.JOIN, "", ours.sized(span.total), span.size)


def judge_whole(headers: Mapping[str, str], held: Held, dialect: Dialect) -> Judgement:
    """Judge a 200: a server MAY ignore Range (RFC 9110 §14.2), so it is a whole new version, or ours."""
    if "content-range" in headers:
        return _unusable("200 with a Content-Range, which §14.4 gives no meaning to")
    theirs = Representation.read(headers, dialect)
    ours = held.representation
    if theirs.coding and not dialect.stored_coding:
        return _unusable("200 in a content coding") if held.count else _encoded(theirs.coding)
    match = Match.UNKNOWN if ours is None else ours.match(headers)
    if match is not Match.SAME and _looks_foreign(theirs, held.earlier):
        return _unusable(f"200 of type {theirs.media!r} and no validator of ours: an error page (§15)")
    if ours is None or not held.count:
        return Judgement(Verdict.FRESH, "", theirs, theirs.total)
    too_short = theirs.total is not None and theirs.total < held.position
    same_size = theirs.total is None or ours.total is None or theirs.total == ours.total
    if match is Match.SAME or (
        match is Match.UNKNOWN and held.provable and not held.rewindable and same_size
    ):
        if not same_size or theirs.coding != ours.coding or too_short:
            return _unusable("200 with our entity tag but another length or coding")
        return Judgement(Verdict.SKIP, "", ours.sized(theirs.total), theirs.total)
    if match is Match.UNKNOWN and ours.etag is not None and not same_size:
        return _unusable("200 without an entity tag and of another length")
    replaced = match is Match.CHANGED or not same_size
    return Judgement(
        Verdict.REPLACED if replaced else Verdict.FRESH, "the 200 is another version", theirs, theirs.total
    )


def _looks_foreign(theirs: Representation, earlier: Representation | None) -> bool:
    """Whether a 200 is a page about the object rather than the object, as portals and gateways send."""
    if earlier is None or theirs.media == earlier.media:
        return False
    return theirs.media == "text/html" or (earlier.etag is not None and theirs.etag is None)


def _encoded(coding: str) -> Judgement:
    """A first answer is refused for good: no digest, size or range of the object applies to its bytes."""
    return Judgement(Verdict.ENCODED, f"content-coded as {coding!r} though identity was asked for")


def _unusable(why: str) -> Judgement:
    return Judgement(Verdict.UNUSABLE, why)
