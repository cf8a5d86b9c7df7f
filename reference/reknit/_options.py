"""What a caller may choose, and what a caller is told."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reknit._checksums import Digest, wanted
from reknit._errors import CallerError
from reknit._retry import Limits


@dataclass(frozen=True)
class Options:
    """Everything about a transfer but its URL and its file. Times are in seconds, sizes in bytes.

    Raises CallerError when a value makes no sense.
    """

    idle_timeout: float = 30.0
    """How long the network may stay silent in one wait. A slow consumer never counts, nor does the total
    time.
    """
    connect_timeout: float = 10.0
    """How long a connection may take to come about."""
    attempts: int = 6
    """How often to try again in a row without a new byte; any progress refills it."""
    backoff_base: float = 0.5
    """The longest first wait; it doubles with each failure in a row, and is drawn at random below that."""
    backoff_cap: float = 30.0
    """No wait is longer, but for Retry-After."""
    retry_after_cap: float = 120.0
    """A longer Retry-After is cut to this."""
    restarts: int = 2
    """How often to begin again because the object was replaced."""
    buffer: int = 1 << 20
    """The most bytes taken from the network at once."""
    checkpoint_bytes: int = 32 << 20
    """How many bytes a power cut can cost; a killed process loses less (see the journal)."""
    parallel: int = 1
    """How many ranges of an object to fetch at once into a file, or parts to send; 1 is one after the other.
    An upload holds one part more than that in memory."""
    parallel_above: int = 64 << 20
    """Objects (or slices) below this size are fetched by one plain transfer all the same."""
    range_bytes: int = 32 << 20
    """How large a range is at most, of several. A killed process loses up to 2 x parallel x range_bytes."""
    verify: bool = True
    """Verify the digest the store offers."""
    expect: str | None = None
    """The digest the object must have, like "sha256:…"; always verified."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """More request headers for http; they never follow a redirect to another host."""
    renew: Callable[[], str | Mapping[str, str] | None] | None = None
    """Called after a 401, 403 or 410: returns a fresh URL (http), new `store` settings (or headers for
    http), or None when there are none."""
    store: Mapping[str, str] = field(default_factory=dict)
    """Settings of the store; each store's module lists its own, with the environment variables behind them.
    """
    part_size: int = 8 << 20
    """Uploads: larger objects go to S3 and Swift in parts of this size. More when the store demands it: S3
    takes no part below 5 MiB, and 10,000 of them."""
    keep: bool = False
    """Uploads: when the store kept failing, leave what it has, so that the same call later goes on. Without,
    it is removed, as it is after every other error. What a killed process left is gone on with anyway."""
    journal: str | Path | None = None
    """Uploads: the folder of the records of uploads under way, and of those that could not be removed.
    Without: reknit/uploads below XDG_STATE_HOME, or below ~/.local/state."""
    sleep: Callable[[float], None] = time.sleep
    """How to wait; for tests."""
    roll: Callable[[], float] = random.random
    """A number in [0, 1) for the jitter."""

    def __post_init__(self) -> None:
        if min(self.idle_timeout, self.connect_timeout) <= 0 or self.buffer < 1 or self.checkpoint_bytes < 1:
            raise CallerError("timeouts, buffer and checkpoint_bytes must be above zero")
        if self.part_size < 1:
            raise CallerError("part_size must be above zero")
        if self.parallel < 1 or self.range_bytes < 1 or self.parallel_above < 0:
            raise CallerError("parallel and range_bytes must be above zero, parallel_above not negative")
        if min(self.attempts, self.restarts, self.backoff_base, self.backoff_cap, self.retry_after_cap) < 0:
            raise CallerError("attempts, restarts and backoff must not be negative")
        if "range" in map(str.lower, self.headers):
            raise CallerError("ask for a range with first and length: a resume sends a Range of its own")
        self.expected  # noqa: B018  # raises now rather than after the download

    @property
    def expected(self) -> Digest | None:
        """`expect`, parsed."""
        try:
            return None if self.expect is None else Digest.parse(self.expect)
        except ValueError as error:
            raise CallerError(str(error)) from None

    def wanted(self, offers: tuple[Digest, ...]) -> tuple[Digest, ...]:
        """Which digests to verify of those a store offers."""
        return wanted(offers, verify=self.verify, expect=self.expected)

    @property
    def limits(self) -> Limits:
        """The part the machine needs."""
        return Limits(self.attempts, self.restarts, self.backoff_base, self.backoff_cap, self.retry_after_cap)


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` bytes (None while unknown) are in the sink; `resumes` and `restarts` so far."""

    done: int
    total: int | None
    resumes: int
    restarts: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a finished download took."""

    bytes: int
    requests: int
    resumes: int
    """Requests that continued rather than began."""
    restarts: int
    """How often the object had changed."""
    bytes_refetched: int
    """Body bytes that were received more than once or thrown away."""
    verified: str | None
    """The digests that were verified, like "md5 (etag)", or None when there were none to verify."""
    seconds: float
    unverified: str = ""
    """Why none was verified; empty when one was."""


@dataclass(frozen=True, slots=True)
class UploadReport:
    """What a finished upload took."""

    bytes: int
    requests: int
    reused: int
    """Bytes that an earlier call had stored, and that were not sent again."""
    resent: int
    """Bytes that were sent more than once."""
    restarts: int
    """How often it began anew, or an answer of the store put what it had in doubt."""
    verified: str | None
    """By what the object in the store is proved to be the source, like "md5 (etag)"; None when by its size
    at most."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says about an object without sending it; None or empty for what it does not say."""

    size: int | None
    etag: str | None
    """The strong entity tag, with its quotes."""
    modified: str
    media_type: str
    headers: Mapping[str, str]
    """The whole response head, names in lower case."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of the whole object, in hexadecimal, by algorithm: md5, sha256, crc32 …"""
