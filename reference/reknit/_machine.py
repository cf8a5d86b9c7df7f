"""The download as a sans-I/O state machine: events in, actions out; no clock, no dice, no socket, no file.

Every call of `receive` answers with the actions to carry out in order. The last one says which event comes
next:

    Request        Answer | Dropped
    Read | Skip    Data | End | Dropped
    Renew          Renewed | Dropped
    Stat           Sized
    Verify         Verified
    Finish | Fail  nothing: it is over

It ends under every schedule. A request is made because bytes arrived that were not there before (at most the
size of the object), or it uses up one of: `attempts` in a row without progress, `restarts`, the one renewal
between two answers with data, the one fresh start after a digest mismatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from reknit import _events as ev
from reknit._checksums import Digest, wanted
from reknit._errors import Changed, Exhausted, Integrity, Refused, ReknitError, StoreFault, Unranged
from reknit._judge import Held, Judgement, Verdict, judge_partial, judge_whole
from reknit._ranges import WHOLE, Slice, parse_content_range
from reknit._representation import (
    Dialect,
    Match,
    Representation,
    answered,
    content_coding,
    content_length,
    is_chunked,
    refusal,
)
from reknit._retry import RENEWABLE, RETRYABLE, Limits, backoff, retry_after, times

# After so many bytes a drop is one more accident on a good line, not a failing one: resume at once.
_GOOD_RUN = 1 << 20

# Range answers that cannot be used before a plain GET, whose prefix is skipped, is tried instead. One may be
# an accident on the way; a second in a row is how this server is.
_ODD_ANSWERS = 2


class Machine:
    """Decides everything about one download.

    `part` is what is wanted of the object. `known` and `held` are what an earlier process left, if anything.
    `bound`: the part is one of several, and only `known` will do. Another version is `Changed` from the first
    byte on, and a server that sends the whole instead is `Unranged`: skipping to each part costs too much.
    `rewindable` says whether the sink can be emptied. `roll` returns a number in [0, 1) for the jitter.
    `expect` is the caller's digest of the object.
    """

    def __init__(
        self,
        dialect: Dialect,
        limits: Limits,
        roll: Callable[[], float],
        *,
        part: Slice = WHOLE,
        rewindable: bool = True,
        verify: bool = True,
        expect: Digest | None = None,
        known: Representation | None = None,
        held: int = 0,
        bound: bool = False,
    ) -> None:
        assert not bound or (known is not None and known.etag is not None), "bound to nothing"
        self._dialect, self._limits, self._roll, self._part = dialect, limits, roll, part
        self._rewindable, self._verify, self._expect = rewindable, verify, expect
        self._bound = bound
        self.representation = self._earlier = known
        self.held = self._best = held
        self.requests = self.resumes = self.restarts = self.wasted = 0
        self._failures = 0  # in a row, without progress
        self._run = _GOOD_RUN  # bytes gained since the last failure
        self._odd = 0  # range answers in a row that could not be used
        self._ranged = True
        self._renewed = self._mismatched = False
        self._asked = ev.Request()
        self._skip = 0  # body bytes still to be dropped
        self._left: int | None = None  # body bytes still to be taken; None: until it ends
        self._chunked = False
        self._guessed = False  # the end of the connection is taken for the end of the body
        self._doubted = False  # the size is asked for because of a 416, not of a body's end
        self._refusal = Refused("")  # what to raise when a renewal does not help

    # -- the two ways in -----------------------------------------------------------------------------------

    def start(self) -> list[ev.Action]:
        """The first actions."""
        # §14.1.1: never ask for no bytes, or for those from the end on.
        return self._whole() if self.held == self.target else [self._request()]

    def receive(self, event: ev.Event) -> list[ev.Action]:
        """Take one event, return what to do now."""
        match event:
            case ev.Data(size):
                return self._data(size)
            case ev.Answer():
                return self._answer(event)
            case ev.Dropped(fault):
                return [ev.Close(), *self._retry(str(fault), fault)]
            case ev.End():
                return self._end()
            case ev.Sized(headers):
                return self._sized(headers or {})
            case ev.Renewed(done):
                self._renewed = True
                return [self._request()] if done else [ev.Fail(self._refusal)]
            case ev.Verified(wrong):
                return [ev.Finish()] if wrong is None else self._mismatch(wrong)

    # -- asking --------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> tuple[Digest, ...]:
        """The digests to verify before it is over."""
        offers = self.representation.digests if self.representation else ()
        return wanted(offers, verify=self._verify, expect=self._expect)

    @property
    def target(self) -> int | None:
        """How many bytes the sink will hold in the end, once that is known."""
        return self._part.size(self.representation.total if self.representation else None)

    @property
    def _position(self) -> int:
        """The next byte of the object."""
        return self._part.first + self.held

    def _request(self) -> ev.Request:
        self.requests += 1
        self.resumes += bool(self.held)
        ours = self.representation
        # A plain GET needs no condition: it brings a whole representation, and its tag says which.
        self._asked = ev.Request()
        if self._ranged and (ours is not None or not self._part.whole):
            self._asked = ev.Request(self._position, last=self._part.last)
        if self._asked.ranged and ours is not None:
            # §13.1.1, §13.1.5: the condition binds the rest to the first answer.
            self._asked = replace(self._asked, etag=ours.etag)
        return self._asked

    def _joinable(self) -> bool:
        """§15.3.7.3: ranges combine under one strong validator; failing that, a digest must speak later."""
        return self.representation is not None and (self.representation.etag is not None or bool(self.wanted))

    def _retry(self, why: str, cause: StoreFault | None = None, after: float = 0.0) -> list[ev.Action]:
        """Ask again later, for what is missing if it can be joined, else for the whole."""
        first = self._failures == 0 and self._run >= _GOOD_RUN
        self._failures += 1
        self._run = 0
        if self._failures > self._limits.attempts:
            tried = times(self._failures)
            message = f"gave up at byte {self._position} after {tried} without progress: {why}"
            return _fail(Exhausted(message, (cause.__cause__ or cause) if cause else None))
        actions: list[ev.Action] = []
        if not self._joinable():
            if self.held and not self._rewindable:
                return _fail(Changed(f"{why}; nothing ties the rest to the {self.held} bytes delivered"))
            actions += self._forget()
        # RFC 9112 §9.3.1 lets a GET be repeated; a line that was good so far needs no wait before the first.
        jitter = 0.0 if first and not after and cause and cause.kind != "connect" else self._backoff()
        seconds = max(jitter, min(after, self._limits.retry_after_cap))
        return [*actions, *([ev.Wait(seconds)] if seconds > 0 else []), self._request()]

    def _backoff(self) -> float:
        return backoff(self._failures, self._limits.base, self._limits.cap, self._roll())

    def _forget(self) -> list[ev.Action]:
        """Drop what is held. `_best` stays: the same bytes once more are no progress."""
        self.wasted += self.held
        emptied: list[ev.Action] = [ev.Truncate()] if self.held else []
        self.held, self.representation = 0, None
        return emptied

    # -- judging an answer ---------------------------------------------------------------------------------

    def _answer(self, answer: ev.Answer) -> list[ev.Action]:
        status = answer.status
        if status == 200 and self._bound:
            return self._whole_for_part(answer)
        if status in (200, 206):
            held = Held(
                self.held,
                self._position,
                self.representation,
                self._earlier,
                provable=bool(self.wanted),
                rewindable=self._rewindable,
                asked=(self._asked.first, self._asked.last) if self._asked.ranged else None,
            )
            judge = judge_partial if status == 206 else judge_whole
            return self._act(judge(answer.headers, held, self._dialect), answer)
        if status == 416 and self._asked.ranged:
            return self._past_the_end(answer)
        if status == 412 and self._asked.ranged:
            # §15.5.13: our condition is false, so the object is another one. It is never sent again.
            return self._changed("412 to the condition of the resume")
        if status in RETRYABLE:
            why = answered(status, answer.headers)
            return [ev.Close(), *self._retry(why, after=retry_after(answer.headers, answer.now))]
        where = f" at byte {self._position}" if self.held else ""
        self._refusal = Refused(f"{refusal(status, answer.headers)}{where}", status)
        if status in RENEWABLE and not self._renewed:
            return [ev.Close(), ev.Renew()]
        return _fail(self._refusal)

    def _act(self, judged: Judgement, answer: ev.Answer) -> list[ev.Action]:
        verdict, theirs = judged.verdict, judged.representation
        if verdict is Verdict.ENCODED:
            return _fail(Refused(judged.why, answer.status))
        if verdict is Verdict.UNUSABLE:
            return self._odd_answer(judged.why)
        if verdict is Verdict.REPLACED or (verdict is Verdict.FRESH and self.held and not self._rewindable):
            return self._changed(judged.why, theirs, answer)
        assert theirs is not None
        self._renewed = (
            False  # the credentials were good for this; without a byte, it is a failure that counts
        )
        if verdict is Verdict.FRESH:
            return self._begin(theirs, answer)
        if self.representation is None:
            theirs = self._adopt(theirs)
        pin: list[ev.Action] = [ev.Pin(theirs)] if theirs != self.representation else []
        if self._bound:
            # For whoever assembles the parts: a digest of the whole may stand in the answer to each.
            span = parse_content_range(answer.headers.get("content-range"))
            pin = [ev.Pin(Representation.read(answer.headers, self._dialect, span))]
        return [*pin, *self._read(theirs, answer, judged.limit, whole=verdict is Verdict.SKIP)]

    def _odd_answer(self, why: str) -> list[ev.Action]:
        self._odd += 1
        self._ranged = self._ranged and self._odd < _ODD_ANSWERS
        if self._bound and not self._ranged:
            return _fail(Unranged(why))
        return [ev.Close(), *self._retry(why)]

    def _whole_for_part(self, answer: ev.Answer) -> list[ev.Action]:
        """§14.2: a server MAY ignore Range; §13.1.5: or If-Range has found another version."""
        assert self.representation is not None
        if self.representation.match(answer.headers) is Match.CHANGED:
            return self._changed("the 200 is another version")
        return self._odd_answer("200 to a range")

    def _begin(self, theirs: Representation, answer: ev.Answer) -> list[ev.Action]:
        """Bind to a new version and read it from its first byte, out of the answer at hand."""
        if theirs.total is not None and theirs.total <= self._part.first > 0:
            return self._beyond(theirs.total)
        emptied = self._forget()
        theirs = self._adopt(theirs)
        return [*emptied, ev.Pin(theirs), *self._read(theirs, answer, theirs.total, whole=True)]

    def _adopt(self, theirs: Representation) -> Representation:
        """The digests of the whole say nothing about a slice, unless that is the whole."""
        total = theirs.total
        covered = self._part.whole or (total is not None and self._part.size(total) == total)
        return theirs if covered else replace(theirs, digests=())

    def _read(
        self, theirs: Representation, answer: ev.Answer, limit: int | None, *, whole: bool
    ) -> list[ev.Action]:
        """Take `limit` bytes of the answer at hand, which begins where we are, or is the `whole`."""
        self.representation = self._earlier = theirs
        self._chunked = is_chunked(answer.headers)
        self._skip, self._left = self._position if whole else 0, limit
        # Only the end of the body may have been missing, or there is nothing in it.
        return self._whole() if self.held == self.target else [self._take()]

    def _beyond(self, total: int) -> list[ev.Action]:
        return _fail(Refused(f"the object has {total} bytes: none from byte {self._part.first} on", 416))

    def _changed(
        self, why: str, theirs: Representation | None = None, answer: ev.Answer | None = None
    ) -> list[ev.Action]:
        """The object is another one: begin again, out of the answer at hand if that holds it whole."""
        if self._bound:
            return _fail(Changed(f"the object changed: {why}"))
        self.restarts += 1
        if self.held and not self._rewindable:
            return _fail(Changed(f"the object changed after {self.held} bytes were delivered: {why}"))
        if self.restarts > self._limits.restarts:
            return _fail(Changed(f"the object changed {self.restarts} times during the transfer: {why}"))
        self._best, self._ranged, self._odd = 0, True, 0
        if theirs is not None and answer is not None:
            return self._begin(theirs, answer)
        return [ev.Close(), *self._forget(), self._request()]

    def _past_the_end(self, answer: ev.Answer) -> list[ev.Action]:
        """§15.5.17: a 416 tells the current length. Ours may be complete, or the object is another one."""
        span = parse_content_range(answer.headers.get("content-range"))
        total = span.total if span else None
        ours = self.representation
        if ours is None:
            if total is not None and total <= self._part.first > 0:
                return self._beyond(total)
            # Of an empty object, too: a plain GET says so in a way that cannot be mistaken.
            return [ev.Close(), *self._plain("416 to a range that should exist")]
        match = ours.match(answer.headers)
        if total == self._position and ours.total is None:
            if self.wanted or match is Match.SAME:
                self.representation = ours.sized(total)
                return self._whole()
            if match is Match.UNKNOWN:
                self._doubted = True
                return [ev.Close(), ev.Stat()]
        if match is Match.CHANGED or (span and ours.total is not None and total != ours.total):
            return self._changed(f"416 with {answer.headers.get('content-range')!r}")
        return [ev.Close(), *self._plain("416 to a range that should exist")]

    def _plain(self, why: str) -> list[ev.Action]:
        """Drop the partial and fetch the whole without Range; a stream, which cannot drop it, skips."""
        if self._bound:
            return _fail(Unranged(why))
        self._ranged = False
        emptied = self._forget() if self._rewindable else []
        return [*emptied, *self._retry(why)]

    # -- reading a body ------------------------------------------------------------------------------------

    def _take(self) -> ev.Read | ev.Skip:
        if self._skip:
            return ev.Skip(self._skip)
        missing = None if self.target is None else self.target - self.held
        return ev.Read(min((n for n in (self._left, missing) if n is not None), default=None))

    def _data(self, size: int) -> list[ev.Action]:
        if self._left is not None:
            self._left -= size
        if self._skip:
            self._skip -= size
            self.wasted += size
            return [self._take()]
        self.held += size
        self._run += size
        if self.held > self._best:
            self._best = self.held
            self._failures = self._odd = 0
            self._renewed = False
        if self._run >= _GOOD_RUN:
            self._ranged = True  # whatever answered oddly, much has gone well since
        if self.held == self.target:
            return self._whole()  # RFC 9112 §6.3: complete, whatever becomes of the connection now
        if self._left == 0:
            return [ev.Close(), self._request()]  # an honest shorter 206: ask for the rest
        return [self._take()]

    def _end(self) -> list[ev.Action]:
        self._doubted = False
        if self._left is None and self._part.first and not self.held:
            return [ev.Close(), ev.Stat()]  # ended before the slice began: is there anything in it?
        if self._left is not None or self._skip:
            # RFC 9112 §8: fewer bytes than announced is an incomplete message, however cleanly it ended.
            missing = f"{self._left} bytes early" if self._left is not None else "inside the known prefix"
            return self.receive(ev.Dropped(StoreFault("short", f"short: the body ended {missing}")))
        if self.wanted:
            self._guessed = not self._chunked
            return self._whole()  # the digest proves the length, too
        # Without a length, a last chunk proves only what the nearest hop saw, and the end of a connection
        # proves nothing (RFC 9112 §8). An independent size does.
        return [ev.Close(), ev.Stat()]

    def _sized(self, headers: Mapping[str, str]) -> list[ev.Action]:
        """An independent size for a body without one, or for a 416 that says we have it all."""
        ours = self.representation
        assert ours is not None
        # A HEAD that tells the length of a coded form tells nothing about ours (§8.6, §8.4).
        size = content_length(headers) if content_coding(headers) == ours.coding else None
        match = ours.match(headers)
        if self._part.first and not self.held:
            if size is None and self._chunked and not self._doubted:
                size = self._part.first - self._skip
            if size is not None and size <= self._part.first:
                return self._beyond(size)
            return self._retry(f"the body ended before byte {self._part.first}")
        if size == self._position and (match is Match.SAME or (match is Match.UNKNOWN and not self._doubted)):
            return self._whole()
        if self._doubted:
            return self._plain("416 to a range that should exist")
        if self._chunked and (size is None or match is not Match.SAME or size < self._position):
            # RFC 9112 §8: the last chunk stands, unless the same version is known to be longer.
            return self._whole()
        if match is Match.CHANGED:
            return self._changed("HEAD shows another version")
        if size is None and self.held:
            return _fail(Integrity(f"{self.held} bytes came without a length, and the store names none"))
        if size is not None and size > self._position:
            self.representation = ours.sized(size)
        return self._retry(f"the body ended at byte {self._position}, the store says {size}")

    # -- the end -------------------------------------------------------------------------------------------

    def _whole(self) -> list[ev.Action]:
        wanted = self.wanted
        return [ev.Close(), ev.Verify(wanted) if wanted else ev.Finish()]

    def _mismatch(self, wrong: Digest) -> list[ev.Action]:
        """The path may have spoilt bytes: one clean start, then it is the store against its own word."""
        why = f"the {self.held} bytes do not have the {wrong.algorithm} {wrong.value} ({wrong.source})"
        if self._guessed:
            self._guessed = False
            return self._retry(why)  # what looked like the end may have been a drop: ask for more
        if self._mismatched or not self._rewindable:
            return _fail(Integrity(why))
        self._mismatched = True
        self._best = 0
        return [*self._forget(), self._request()]


def _fail(error: ReknitError) -> list[ev.Action]:
    return [ev.Close(), ev.Fail(error)]
