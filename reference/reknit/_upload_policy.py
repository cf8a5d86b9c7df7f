"""What the machines of all shapes share: what is under way, asking again, renewing, giving up.

Sans-I/O as the download's machine: requests go out as `Do`, and the answer to each comes back by `receive`,
in any order. It ends under every schedule: a request is made because something was stored that was not there
before, or it uses up one of `attempts` for its kind and part, `restarts`, or the one renewal between two
steps of progress.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from reknit import _upload_events as ev
from reknit._checksums import Digest, offered, wanted
from reknit._errors import Exhausted, Integrity, Refused, ReknitError, StoreFault
from reknit._representation import content_coding, content_length, refusal
from reknit._retry import RENEWABLE, RETRYABLE, Limits, backoff, retry_after, times

# Answers to HEAD that say nothing of the object: it may be written and not read, or HEAD is not known.
MUTE = frozenset({401, 403, 405, 501})

# As for downloads: after so many bytes a drop is an accident on a good line, and is met at once.
_GOOD_RUN = 1 << 20


class Policy:
    """One upload; a subclass knows the shape."""

    def __init__(self, shape: ev.Shape, size: int, limits: Limits, roll: Callable[[], float]) -> None:
        self.shape, self.size = shape, size
        self._limits, self._roll = limits, roll
        self.requests = self.retries = self.restarts = 0
        self.stored = 0
        """Bytes that the store is known to have."""
        self._flying: dict[ev.Request, int] = {}  # and how many renewals came before each
        self._parked: list[ev.Request] = []  # until there are new credentials
        self._renewals, self._renewed = 0, False
        self._failures: Counter[tuple[type, int]] = Counter()  # since there was progress
        self._run = _GOOD_RUN  # bytes stored since the last failure
        self.error: ReknitError | None = None
        """Why it was given up: what is still under way then need not be begun."""
        self.orphaned = False
        """Whether something stays in the store that could not be removed."""

    # -- the two ways in -----------------------------------------------------------------------------------

    def start(self) -> list[ev.Action]:
        """The first actions."""
        raise NotImplementedError

    def receive(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        """Take what became of a request, return what to do now."""
        before = self._flying.pop(request)
        if isinstance(request, ev.Abort):
            return self._aborted(request, event)
        if self.error is not None:
            return [*self._late(request, event), *self._wind_up()]
        match event:
            case ev.Broken(error):
                return self.give_up(error)
            case ev.Renewed(done):
                return self._renew(done)
            case ev.Dropped() if isinstance(request, ev.Renew):
                return self._retry(request, event)
            case ev.Told() if event.status in RENEWABLE and not event.gone:
                return self._denied(request, event, before)
        return self._act(request, event)

    # -- for the shape -------------------------------------------------------------------------------------

    def _act(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        raise NotImplementedError

    def _late(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        """It was given up meanwhile, and this may have been done all the same."""
        return []

    def _end(self, error: ReknitError) -> list[ev.Action]:
        """Nothing is under way any more: clean up, then fail."""
        return [ev.Fail(error)]

    def leaves(self, error: ReknitError) -> bool:
        """Whether what the store has is left there after this error, so that a record of it is needed."""
        return self.orphaned

    def _aborted(self, request: ev.Abort, event: ev.Event) -> list[ev.Action]:
        """One page of the upload is removed, or is not."""
        assert self.error is not None
        fault = event.fault if isinstance(event, ev.Dropped) else None
        if isinstance(event, ev.Told) and (event.done or event.gone):
            self._failures.clear()
            if event.more:
                return [self._ask(ev.Abort(request.session, event.more, request.last))]
            return [ev.Forget(), ev.Fail(self.error)]
        why = str(fault) if fault else event.why if isinstance(event, ev.Told) else "it was interrupted"
        self._failures[ev.Abort, 0] += 1
        failures = self._failures[ev.Abort, 0]
        final = isinstance(event, ev.Told) and event.status not in RETRYABLE
        if final or failures > self._limits.attempts:
            self.orphaned = True
            return [ev.Orphan(f"{self.error}; and it could not be removed: {why}"), ev.Fail(self.error)]
        after = retry_after(event.headers, event.now) if isinstance(event, ev.Told) else 0.0
        return [self._ask(request, self._delay(failures, after))]

    # -- asking --------------------------------------------------------------------------------------------

    def _ask(self, request: ev.Request, delay: float = 0.0) -> ev.Do:
        self._flying[request] = self._renewals
        self.requests += not isinstance(request, (ev.Load, ev.Hash, ev.Renew))
        return ev.Do(request, delay)

    def _progress(self, size: int) -> None:
        self._failures.clear()
        self._renewed = False
        self._run += size

    def _failed(self, request: ev.Request, event: ev.Event) -> float | ReknitError:
        """Seconds until it may be asked again, or the error that ends it."""
        if isinstance(event, ev.Told):
            if event.status not in RETRYABLE and not event.spoilt:
                return Refused(refusal(event.status, event.headers), event.status)
            why, cause, after = event.why, None, retry_after(event.headers, event.now)
        else:
            assert isinstance(event, ev.Dropped), event
            why, cause, after = str(event.fault), event.fault, 0.0
        return self._again(request, why, cause, after)

    def _again(
        self, request: ev.Request, why: str, cause: StoreFault | None = None, after: float = 0.0
    ) -> float | ReknitError:
        key = type(request), request.piece.number if isinstance(request, ev.Send) else 0
        self._failures[key] += 1
        good, self._run = self._run >= _GOOD_RUN, 0
        failures = self._failures[key]
        if failures > self._limits.attempts:
            tried = times(failures)
            told = f"gave up with {self.stored} of {self.size} bytes stored, after {tried}: {why}"
            return Exhausted(told, (cause.__cause__ or cause) if cause else None)
        self.retries += 1
        if failures == 1 and good and not after and cause and cause.kind != "connect":
            return 0.0
        return self._delay(failures, after)

    def _delay(self, failures: int, after: float) -> float:
        jitter = backoff(failures, self._limits.base, self._limits.cap, self._roll())
        return max(jitter, min(after, self._limits.retry_after_cap))

    def _retry(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        """The same once more: every request of ours may be repeated (RFC 9110 §9.2.2)."""
        return self._or_give_up(self._failed(request, event), lambda delay: [self._ask(request, delay)])

    def _or_give_up(
        self, delay: float | ReknitError, then: Callable[[float], list[ev.Action]]
    ) -> list[ev.Action]:
        return self.give_up(delay) if isinstance(delay, ReknitError) else then(delay)

    # -- credentials ---------------------------------------------------------------------------------------

    def _denied(self, request: ev.Request, told: ev.Told, before: int) -> list[ev.Action]:
        if before < self._renewals:
            return [self._ask(request)]  # it went out with the old ones
        renewing = any(isinstance(one, ev.Renew) for one in self._flying)
        if self._renewed and not renewing:
            return self._unable(request, told)
        self._parked.append(request)
        self._refusal = told
        return [] if renewing else [self._ask(ev.Renew())]

    def _renew(self, done: bool) -> list[ev.Action]:
        self._renewed = True
        parked, self._parked = self._parked, []
        if not done:
            return self._unable(parked[0] if parked else ev.Renew(), self._refusal)
        self._renewals += 1
        return [self._ask(one) for one in parked]

    def _unable(self, request: ev.Request, told: ev.Told) -> list[ev.Action]:
        """No credentials that we have allow this."""
        return self.give_up(Refused(refusal(told.status, told.headers), told.status))

    # -- the end -------------------------------------------------------------------------------------------

    def give_up(self, error: ReknitError) -> list[ev.Action]:
        """Come to an end: wait for what is under way, clean up, fail."""
        self.error = error
        self._parked.clear()
        return self._wind_up()

    def _wind_up(self) -> list[ev.Action]:
        # A part that is stored after the abort would stay.
        if self._flying:
            return []
        assert self.error is not None
        self._failures.clear()
        return self._end(self.error)

    def _other_tag(self, told: ev.Told, md5: str) -> bool:
        """Whether the answer's tag is an MD5, and not this one: other bytes were stored than were sent."""
        tag = told.headers.get("etag", "").strip('"').lower()
        plain = re.fullmatch("[0-9a-f]{32}", tag) is not None
        return plain and bool(md5) and tag != md5 and self.shape.dialect.etag_is_md5(told.headers)

    def _differs(self, told: ev.Told) -> str:
        """How the object that the store shows is not of our size; empty if it may be ours."""
        coding = content_coding(told.headers)
        size = content_length(told.headers) if not coding or self.shape.dialect.stored_coding else None
        return f"it has {size} bytes, not {self.size}" if size not in (None, self.size) else ""

    def _integrity(self, why: str) -> list[ev.Action]:
        return self.give_up(Integrity(f"the store took the object, and {why}"))


class Begun(Policy):
    """What is begun in the store and may stay there: a session. `_keep` leaves it for a later process."""

    session: str
    _keep: bool

    @property
    def _settled(self) -> bool:
        """Whether the object has been made of it."""
        raise NotImplementedError

    def _removal(self) -> ev.Abort:
        """The request that removes it."""
        raise NotImplementedError

    def leaves(self, error: ReknitError) -> bool:
        """See Policy.leaves: P43, what cannot be of use any more is removed."""
        useful = self._keep and isinstance(error, Exhausted) and not self._settled
        return self.orphaned or (useful and bool(self.session))

    def _late(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        if isinstance(request, ev.Begin) and isinstance(event, ev.Told) and event.done:
            self.session = event.session
            return [ev.Note(self.session)]
        return []

    def _end(self, error: ReknitError) -> list[ev.Action]:
        if not self.session or self._settled or self.leaves(error):
            return [ev.Fail(error)]
        return [self._ask(self._removal())]


class Checked(Policy):
    """Looks at the object once it is stored, or while that is in doubt: its size, and the digest if any."""

    def __init__(
        self, shape: ev.Shape, size: int, limits: Limits, roll: Callable[[], float], *, verify: bool = True
    ) -> None:
        super().__init__(shape, size, limits, roll)
        self._verify = verify
        self._md5 = ""  # of the whole, where it is known
        self._doubt = False  # whether the object was stored at all
        self._proof = ""

    def _unproved(self, why: str) -> list[ev.Action]:
        """The object there is another one, or not proved to be ours where it has to be."""
        raise NotImplementedError

    def _unable(self, request: ev.Request, told: ev.Told) -> list[ev.Action]:
        return self._seen(told) if isinstance(request, ev.Head) else super()._unable(request, told)

    def _seen(self, told: ev.Told) -> list[ev.Action]:
        if told.status == 200:
            wrong, digests = self._differs(told), self._digests(told)
            if not wrong and digests:
                return self._compare(digests)
            if wrong or self._doubt:
                return self._unproved(wrong or "nothing proves it to be ours")
            return [ev.Finish(None)]
        if self._doubt:
            return self._unproved(told.why)
        if told.done or told.status in MUTE:
            return [ev.Finish(None)]
        if told.status in (404, 410):
            return self._integrity(f"shows none: {told.why}")
        return self._retry(ev.Head(), told)

    def _digests(self, told: ev.Told) -> tuple[Digest, ...]:
        offers = offered(told.headers, etag_is_md5=self.shape.dialect.etag_is_md5(told.headers))
        known = tuple(one for one in offers if one.algorithm == "md5" and self._md5)[-1:]
        # Without `verify`, what costs no second pass over the source is still looked at.
        return known or wanted(offers, verify=self._verify, expect=None)

    def _compare(self, digests: tuple[Digest, ...]) -> list[ev.Action]:
        self._proof = ", ".join(f"{one.algorithm} ({one.source})" for one in digests)
        if digests[0].algorithm == "md5" and self._md5:
            return self._hashed(next((one for one in digests if one.value != self._md5), None))
        return [self._ask(ev.Hash(digests))]

    def _hashed(self, wrong: Digest | None) -> list[ev.Action]:
        if wrong is None:
            self.stored = self.size
            return [ev.Finish(self._proof)]
        return self._unproved(f"its {wrong.algorithm} is {wrong.value}, not that of the source")


class Removal(Policy):
    """Removes an upload that nobody will go on with. Finish says it is gone, with None that it is not."""

    def __init__(
        self, shape: ev.Shape, limits: Limits, roll: Callable[[], float], session: str, last: int
    ) -> None:
        super().__init__(shape, 0, limits, roll)
        self._session, self._last = session, last

    def start(self) -> list[ev.Action]:
        """Remove it."""
        return [self._ask(ev.Abort(self._session, "", self._last))]

    def _aborted(self, request: ev.Abort, event: ev.Event) -> list[ev.Action]:
        self.error = self.error or Exhausted("it is not wanted any more")
        actions = super()._aborted(request, event)
        if any(isinstance(one, ev.Fail) for one in actions):
            return [ev.Finish(None if self.orphaned else "gone")]
        return actions
