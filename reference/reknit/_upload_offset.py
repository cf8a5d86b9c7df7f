"""An object as one resource that grows: the IETF's resumable uploads, and tus.

P47: after whatever goes wrong the server is asked for its offset, and that is where it goes on, be it less
than was sent; more than was sent is fatal; and a question that fails is asked again, not answered by a new
upload.
"""

from __future__ import annotations

from collections.abc import Callable

from reknit import _upload_events as ev
from reknit._errors import Exhausted, Refused, ReknitError
from reknit._retry import RETRYABLE, Limits
from reknit._upload_policy import Begun, Checked

# Answers after which the offset tells how to go on: it is another one (RFC 9110 §15.5.10), or an earlier
# request is still being dealt with (423, tus; RFC 4918 §11.3).
_ASK = frozenset({*RETRYABLE, 409, 423})


class Offset(Begun, Checked):
    """`earlier` is the session that an earlier process began for the same bytes; `keep` as for Parts."""

    def __init__(
        self,
        shape: ev.Shape,
        size: int,
        limits: Limits,
        roll: Callable[[], float],
        *,
        verify: bool = True,
        earlier: str = "",
        keep: bool = True,
    ) -> None:
        super().__init__(shape, size, limits, roll, verify=verify)
        self.session, self._keep = earlier, keep
        self.reused = 0
        """Bytes that an earlier process had stored."""
        self._inherited = bool(earlier)
        self._sent = size if earlier else 0  # how far any request may have gone
        self._most = shape.most
        self._complete = False

    def start(self) -> list[ev.Action]:
        """See what is there, or begin."""
        return [self._ask(ev.Look(self.session) if self.session else ev.Begin(self.size))]

    def receive(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        """See Policy.receive."""
        if isinstance(request, ev.Send):
            given = event.given if isinstance(event, ev.Dropped) else None
            went = request.piece.size if given is None else given
            self._sent = max(self._sent, request.piece.offset + went)
        return super().receive(request, event)

    def _act(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        match request, event:
            case ev.Begin(), ev.Told() if event.done:
                self.session = event.session
                return [ev.Note(self.session), *self._at(event, event.offset or 0)]
            case ev.Send() | ev.Look(), ev.Told() if event.gone:
                return self._vanished(event)
            case ev.Look(), ev.Told() if event.done and (event.complete or event.offset is not None):
                return self._at(event, self.size if event.complete else event.offset or 0)
            case ev.Look(), ev.Told() if event.done:
                return self._or_give_up(self._again(request, "no offset in the answer"), self._ask_where)
            case ev.Send(piece=piece), ev.Told() if event.done:
                return self._sent_to(piece, event)
            case ev.Send(), ev.Told() if event.complete:
                # It has all, and would not make the object of it: sending again cannot help (the draft,
                # Upload Append).
                return self.give_up(
                    Refused(f"the store took all of it, and answered {event.why}", event.status)
                )
            case ev.Send(piece=piece), ev.Told(status=413) if event.most and event.most < piece.size:
                self._most = event.most
                return self._or_give_up(self._again(request, event.why), self._ask_where)
            case ev.Send(), ev.Told() if event.status not in _ASK and not event.spoilt:
                return self._retry(request, event)
            case ev.Send(), ev.Told() | ev.Dropped():
                return self._or_give_up(self._waited(request, event), self._ask_where)
            case ev.Head(), ev.Told():
                return self._seen(event)
            case ev.Hash(), ev.Hashed(wrong):
                return self._hashed(wrong)
        return self._retry(request, event)

    def _waited(self, request: ev.Request, event: ev.Event) -> float | ReknitError:
        if isinstance(event, ev.Told) and event.status not in RETRYABLE:
            return self._again(request, event.why)
        return self._failed(request, event)

    def _ask_where(self, delay: float = 0.0) -> list[ev.Action]:
        return [self._ask(ev.Look(self.session), delay)]

    def _sent_to(self, piece: ev.Piece, told: ev.Told) -> list[ev.Action]:
        if told.complete:
            return self._at(told, self.size)
        if told.offset is not None and told.offset > self.stored:
            return self._at(told, told.offset)
        # Taken, and nothing more there than before.
        delay = self._again(ev.Send(self.session, piece), f"{told.why}, at offset {told.offset}")
        return self._or_give_up(delay, self._ask_where)

    def _at(self, told: ev.Told, offset: int) -> list[ev.Action]:
        """The server has so many bytes: go on there."""
        if offset > self._sent:
            return self._integrity(f"claims {offset} bytes where {self._sent} were sent")
        self._most = told.most or self._most
        if self._inherited:
            self._inherited, self.reused = False, offset
        elif offset > self.stored:
            self._progress(offset - self.stored)
        elif offset < self.stored:  # it has lost some of what it acknowledged
            self.restarts += 1
            if self.restarts > self._limits.restarts:
                return self.give_up(Exhausted(f"the store went back to byte {offset}, from {self.stored}"))
        self.stored = offset
        if told.complete:
            self._complete = True
            return [self._ask(ev.Head())]
        size = min(self.size - offset, self._most or self.size)
        piece = ev.Piece(1, offset, size, last=offset + size == self.size)
        return [self._ask(ev.Send(self.session, piece))]

    def _vanished(self, told: ev.Told) -> list[ev.Action]:
        """Servers may forget an upload, also one that is complete: then the object is there."""
        if self._sent < self.size:
            return self._unproved(told.why)
        self._doubt = True
        return [self._ask(ev.Head())]

    def _unproved(self, why: str) -> list[ev.Action]:
        if self._complete:
            return self._integrity(why)
        self.restarts += 1
        if self.restarts > self._limits.restarts:
            return self.give_up(Exhausted(f"the upload vanished from the store {self.restarts} times: {why}"))
        self.session, self._doubt, self._inherited = "", False, False
        self.stored = self.reused = self._sent = 0
        return [ev.Forget(), self._ask(ev.Begin(self.size))]

    @property
    def _settled(self) -> bool:
        return self._complete

    def _removal(self) -> ev.Abort:
        return ev.Abort(self.session)
