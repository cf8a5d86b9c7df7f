"""The vocabulary of the machine: events go in, actions come out. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reknit._checksums import Digest
from reknit._errors import ReknitError, StoreFault
from reknit._representation import Representation


@dataclass(frozen=True, slots=True)
class Answer:
    """A response head. Header names are lower case; `now` is the time in epoch seconds, for Retry-After."""

    status: int
    headers: Mapping[str, str]
    now: float = 0.0


@dataclass(frozen=True, slots=True)
class Data:
    """`size` body bytes were skipped, or are in the sink: the machine counts what is kept, not what came."""

    size: int


@dataclass(frozen=True, slots=True)
class End:
    """The body ended as its framing says it should."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The request or the body broke."""

    fault: StoreFault


@dataclass(frozen=True, slots=True)
class Renewed:
    """Whether there were new credentials, or a new link, to go on with."""

    done: bool


@dataclass(frozen=True, slots=True)
class Sized:
    """What the store says about the object apart from its body (HEAD); None when it would not say."""

    headers: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Verified:
    """The sink was compared with the wanted digests; `wrong` is the first that differs."""

    wrong: Digest | None = None


Event = Answer | Data | End | Dropped | Renewed | Sized | Verified


@dataclass(frozen=True, slots=True)
class Request:
    """GET bytes `first`..`last` (None: to the end) if `etag` still holds; a plain GET when none is set."""

    first: int = 0
    etag: str | None = None
    last: int | None = None

    @property
    def ranged(self) -> bool:
        """Whether it has a Range."""
        return self.first > 0 or self.last is not None


@dataclass(frozen=True, slots=True)
class Pin:
    """The transfer is bound to this version from here on: note it beside the partial."""

    representation: Representation


@dataclass(frozen=True, slots=True)
class Read:
    """Take up to `limit` body bytes (None: until the end) and append them to the sink."""

    limit: int | None


@dataclass(frozen=True, slots=True)
class Skip:
    """Take up to `limit` body bytes that the sink already holds, and drop them."""

    limit: int


@dataclass(frozen=True, slots=True)
class Close:
    """Abandon the answer at hand, with its connection."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Empty the sink: position, hashes and progress go back to zero together."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for new credentials or a new link."""


@dataclass(frozen=True, slots=True)
class Stat:
    """Ask for the size without the body (HEAD)."""


@dataclass(frozen=True, slots=True)
class Verify:
    """Compare what is in the sink with these digests."""

    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The sink holds the whole object: publish it."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up."""

    error: ReknitError


Action = Request | Pin | Read | Skip | Close | Truncate | Wait | Renew | Stat | Verify | Finish | Fail
