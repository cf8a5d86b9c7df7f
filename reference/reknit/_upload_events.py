"""The vocabulary of uploads: what a machine asks for, what it is told. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from reknit._checksums import Digest
from reknit._errors import ReknitError, StoreFault
from reknit._representation import Dialect, answered


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes of the source from `offset` on; `number` counts from 1, `last` says that they end it."""

    number: int
    offset: int
    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A part that the store has: `tag` is the store's name for it, as it gave it; any sums are ours."""

    number: int
    size: int
    tag: str
    md5: str = ""
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to an upload's request, its body read and put into these words by the store's module.

    `status` is what the answer means: an error inside a 200 (S3's CompleteMultipartUpload) has the status of
    the error. `session` names an upload that was begun. `parts` and `more` are one page of a listing, and
    where the next begins (empty: nowhere). `offset` is how many bytes a growing resource has, `complete` that
    it is whole, and `most` how many bytes it takes in one request. `gone`: there is no such session (any
    more). `spoilt`: the bytes that came are not those that were sent. `crc32` is that of the bytes which the
    answer is about, as the store says. `now` is the time, for Retry-After.
    """

    status: int
    headers: Mapping[str, str]
    session: str = ""
    parts: tuple[Stored, ...] = ()
    more: str = ""
    offset: int | None = None
    complete: bool = False
    most: int | None = None
    gone: bool = False
    spoilt: bool = False
    crc32: int | None = None
    now: float = 0.0

    @property
    def done(self) -> bool:
        """Whether it says that what was asked has been done."""
        return 200 <= self.status < 300 and not self.gone and not self.spoilt

    @property
    def why(self) -> str:
        """The status, and the reason that came with it."""
        return answered(self.status, self.headers)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a store takes an object.

    `kind`: "whole", one request; "parts", numbered parts and a commit (small objects in one request);
    "offset", one resource that grows. `hashed`: the MD5 of each body is wanted before it is sent, so bodies
    are held in memory; `summed`: their CRC-32, too. Part sizes are `least` to `most` but for the last, and
    `count` of them at most. `combined` gives the entity tag that an object of these parts has; empty when it
    cannot be told.
    """

    kind: str
    dialect: Dialect
    hashed: bool = False
    summed: bool = False
    least: int = 1
    most: int | None = None
    count: int = 10_000
    combined: Callable[[Sequence[Stored]], str] = lambda parts: ""


# -- what a machine asks for: each is answered by one event ------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """Read the piece into memory and hash it. Answered by Loaded."""

    session: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Put:
    """Store the object, which is this piece, in one request."""

    piece: Piece


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin an upload of `size` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Send:
    """Store this piece of the upload."""

    session: str
    piece: Piece


@dataclass(frozen=True, slots=True)
class Look:
    """What does the store have of the upload? `after` is `more` of the page before."""

    session: str
    after: str = ""
    last: int = 0
    """The highest part number that was ever sent."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the object of these parts. The source is looked at once more before that."""

    session: str
    parts: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """Remove the upload, or the part of it that `after` and `last` name, as for Look."""

    session: str
    after: str = ""
    last: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What does the store say about the object now?"""


@dataclass(frozen=True, slots=True)
class Hash:
    """Does the source have these digests? Answered by Hashed."""

    digests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for new credentials. Answered by Renewed."""


Request = Load | Put | Begin | Send | Look | Commit | Abort | Head | Hash | Renew


# -- what it is told ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loaded:
    """The piece is in memory. This is its MD5 in hexadecimal, and its CRC-32 where the shape is `summed`."""

    md5: str
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class Hashed:
    """`wrong` is the first of the digests that the source does not have."""

    wrong: Digest | None = None


@dataclass(frozen=True, slots=True)
class Renewed:
    """Whether there were new credentials to go on with."""

    done: bool


@dataclass(frozen=True, slots=True)
class Dropped:
    """The request broke on the wire; `given` of its bytes had been read to be sent, where that is known."""

    fault: StoreFault
    given: int | None = None


@dataclass(frozen=True, slots=True)
class Broken:
    """Our side failed: the source could not be read, or is not what it was; nothing more is sent of it."""

    error: ReknitError


Event = Told | Loaded | Hashed | Renewed | Dropped | Broken


# -- what it has done --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Do:
    """Wait for `delay` seconds, then carry out the request. Several may be under way at once."""

    request: Request
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """Write into the journal: a session that was begun, or a part that is stored and need not be held."""

    entry: str | Stored


@dataclass(frozen=True, slots=True)
class Forget:
    """The session is over, and nothing of it is held or noted any longer."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """The upload could not be removed from the store: leave a record of it that can be found."""

    why: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The object is there. `verified` says by what that is proved, if anything."""

    verified: str | None


@dataclass(frozen=True, slots=True)
class Fail:
    """Give up."""

    error: ReknitError


Action = Do | Note | Forget | Orphan | Finish | Fail
