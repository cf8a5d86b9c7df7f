"""An object in one request. PUT may be repeated (RFC 9110 §9.2.2), so a doubt costs a HEAD or the bytes."""

from __future__ import annotations

from collections.abc import Callable

from reknit import _upload_events as ev
from reknit._errors import Integrity, ReknitError
from reknit._retry import Limits
from reknit._upload_policy import Checked


class Whole(Checked):
    """PUT, then HEAD: is it what was sent?"""

    def __init__(
        self, shape: ev.Shape, size: int, limits: Limits, roll: Callable[[], float], *, verify: bool = True
    ) -> None:
        super().__init__(shape, size, limits, roll, verify=verify)
        self._piece = ev.Piece(1, 0, size, last=True)
        self._wrong = ""  # how what the store has differs, if it took something else

    def start(self) -> list[ev.Action]:
        """Read it first, where its hash goes before it."""
        return [self._ask(ev.Load("", self._piece) if self.shape.hashed else ev.Put(self._piece))]

    def _act(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        match request, event:
            case ev.Load(), ev.Loaded(md5):
                self._md5 = md5
                return [self._ask(ev.Put(self._piece))]
            case ev.Put(), ev.Told() if event.done and self._other_tag(event, self._md5):
                return self._unproved(f"its tag is {event.headers['etag']}, and the MD5 sent {self._md5}")
            case ev.Put(), ev.Told() if event.done:
                self.stored, self._wrong = self.size, ""
                self._progress(0)
                return [self._ask(ev.Head())]
            case ev.Put(), ev.Dropped(fault) if fault.kind != "connect":
                # It may have arrived, and only the answer be lost: then the object proves it.
                return self._or_give_up(self._failed(request, event), self._ask_whether)
            case ev.Head(), ev.Told():
                return self._seen(event)
            case ev.Head(), ev.Dropped() if self._doubt:
                return self._unproved("")
            case ev.Hash(), ev.Hashed(wrong):
                return self._hashed(wrong)
        return self._retry(request, event)

    def _ask_whether(self, delay: float) -> list[ev.Action]:
        self._doubt = True
        return [self._ask(ev.Head(), delay)]

    def _unproved(self, why: str) -> list[ev.Action]:
        """Send it again. Where the store said that it has it, and has something else, not for ever."""
        if not self._doubt:
            if self.restarts >= self._limits.restarts:
                return self._integrity(why)
            self.restarts += 1
            self._wrong = why
        self._doubt, self.stored = False, 0
        return [self._ask(ev.Put(self._piece))]

    def _end(self, error: ReknitError) -> list[ev.Action]:
        if self._wrong and not isinstance(error, Integrity):
            told = f"the store took the object, and {self._wrong}; sending it again: {error}"
            return [ev.Fail(Integrity(told))]
        return super()._end(error)
