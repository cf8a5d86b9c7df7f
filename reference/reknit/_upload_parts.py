"""An object in numbered parts and a commit.

At most `at_once` parts are being sent, and one more is read and hashed meanwhile. A part that an earlier
process stored is read and hashed like any other, and then not sent, if the store's listing, the journal and
the bytes agree: same upload, same number and size, same tag, same MD5. Once it is made, the object's tag has
to be the one of its parts, and its CRC-32, if the store keeps one, that of the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reknit import _upload_events as ev
from reknit._checksums import crc32_of
from reknit._errors import Exhausted, Integrity, Refused
from reknit._retry import Limits
from reknit._upload_policy import MUTE, Begun


@dataclass(frozen=True, slots=True)
class Leftover:
    """What the journal says an earlier process stored, in parts of `part_size`."""

    session: str
    part_size: int
    parts: tuple[ev.Stored, ...] = ()


class Parts(Begun):
    """`keep`: leave what is stored when the store kept failing, for a later process to go on with."""

    def __init__(
        self,
        shape: ev.Shape,
        size: int,
        part_size: int,
        limits: Limits,
        roll: Callable[[], float],
        *,
        at_once: int = 1,
        earlier: Leftover | None = None,
        keep: bool = True,
    ) -> None:
        super().__init__(shape, size, limits, roll)
        self._part_size, self._at_once, self._keep = part_size, at_once, keep
        self._count = -(-size // part_size)
        # P48: parts of another size are other parts. (The target is the journal's to compare.)
        self._earlier = earlier if earlier is not None and earlier.part_size == part_size else None
        self.session = self._earlier.session if self._earlier else ""
        self.reused = 0
        """Bytes that an earlier process had stored."""
        self._inherited = False
        self._listed: dict[int, ev.Stored] = {}
        self._leftovers: dict[int, ev.Stored] = {}
        self._parts: dict[int, ev.Stored] = {}
        self._next = 1
        self._ready: list[ev.Piece] = []
        self._sums: dict[int, ev.Loaded] = {}
        self._committed: ev.Told | None = None
        self._doubt: ev.Told | ev.Dropped | None = None  # what became of a commit that was not answered well

    def start(self) -> list[ev.Action]:
        """See what is there, or begin."""
        return [self._ask(self._look() if self._earlier else ev.Begin(self.size))]

    def _act(self, request: ev.Request, event: ev.Event) -> list[ev.Action]:
        session = getattr(request, "session", self.session)
        if session != self.session:
            return self._fill()  # of an upload that is no more
        match request, event:
            case ev.Load(_, piece), ev.Loaded():
                self._sums[piece.number] = event
                return self._loaded(piece, event)
            case ev.Begin(), ev.Told() if event.done:
                self.session = event.session
                return [ev.Note(self.session), *self._fill()]
            case ev.Look(), ev.Told() if event.done or event.gone:
                return self._looked(request, event)
            case ev.Send(), ev.Told() if event.done:
                return self._sent(request, event)
            case ev.Send(), ev.Told() if event.gone:
                return self._again_from_nothing(event)
            case ev.Commit(), ev.Told() if event.done:
                self._committed = event
                self._progress(0)
                return [self._ask(ev.Head())]
            case ev.Commit(), ev.Told() | ev.Dropped():
                return self._in_doubt(request, event)
            case ev.Head(), ev.Told():
                return self._seen(event)
        return self._retry(request, event)

    # -- parts ---------------------------------------------------------------------------------------------

    def _piece(self, number: int) -> ev.Piece:
        offset = (number - 1) * self._part_size
        size = min(self._part_size, self.size - offset)
        return ev.Piece(number, offset, size, last=number == self._count)

    def _fill(self) -> list[ev.Action]:
        """Keep as many parts under way as is allowed; commit when all are stored."""
        under_way = (*self._flying, *self._parked)
        if any(isinstance(one, (ev.Begin, ev.Look, ev.Commit, ev.Head)) for one in under_way):
            return []
        of_ours = [one for one in under_way if getattr(one, "session", "") == self.session]
        sending = sum(isinstance(one, ev.Send) for one in of_ours)
        loading = sum(isinstance(one, ev.Load) for one in of_ours)
        actions: list[ev.Action] = []
        while self._ready and sending < self._at_once:
            actions.append(self._ask(ev.Send(self.session, self._ready.pop(0))))
            sending += 1
        while self._next <= self._count and sending + loading + len(self._ready) <= self._at_once:
            actions.append(self._ask(ev.Load(self.session, self._piece(self._next))))
            self._next += 1
            loading += 1
        if not (actions or under_way) and len(self._parts) == self._count:
            return self._commit()
        return actions

    def _loaded(self, piece: ev.Piece, sums: ev.Loaded) -> list[ev.Action]:
        left = self._leftovers.pop(piece.number, None)
        if left is not None and left.md5 == sums.md5 and left.size == piece.size:
            self.reused += piece.size * self._inherited
            return self._store(replace(left, crc32=sums.crc32))
        self._ready.append(piece)
        return self._fill()

    def _sent(self, request: ev.Send, told: ev.Told) -> list[ev.Action]:
        piece = request.piece
        sums, tag = self._sums[piece.number], told.headers.get("etag", "")
        if not tag:
            return self.give_up(Integrity(f"the store took part {piece.number} and gave it no ETag"))
        if self._other_tag(told, sums.md5) or _other_sum(told, sums.crc32):
            spoilt = ev.Told(
                told.status, {"x-reknit-reason": f"part {piece.number} is not as sent"}, spoilt=True
            )
            return self._retry(request, spoilt)
        self._progress(piece.size)
        return self._store(ev.Stored(piece.number, piece.size, tag, sums.md5, sums.crc32))

    def _store(self, part: ev.Stored) -> list[ev.Action]:
        self._parts[part.number] = part
        self.stored += part.size
        return [ev.Note(part), *self._fill()]

    # -- what an earlier process left ----------------------------------------------------------------------

    def _look(self, after: str = "") -> ev.Look:
        known = self._earlier.parts if self._earlier else tuple(self._parts.values())
        return ev.Look(self.session, after, max((part.number for part in known), default=0))

    def _looked(self, request: ev.Look, told: ev.Told) -> list[ev.Action]:
        known = {part.number: part for part in self._earlier.parts} if self._earlier else dict(self._parts)
        if told.gone:
            if len(known) < self._count:
                return self._again_from_nothing(told)
            # All of it was stored: it may have been committed. If not, the commit will say so.
            self._listed = known
        else:
            self._listed |= {part.number: part for part in told.parts}
            if told.more:
                return [self._ask(ev.Look(self.session, told.more, request.last))]
        # P48: the store's word and ours have to agree, and then the bytes, once they are read.
        self._leftovers = {
            number: part
            for number, part in known.items()
            if number in self._listed and _same(part, self._listed[number])
        }
        self._inherited, self._earlier = self._earlier is not None, None
        self._listed = {}
        self._parts, self._ready, self._next, self.stored = {}, [], 1, 0
        return self._fill()

    def _again_from_nothing(self, why: ev.Told) -> list[ev.Action]:
        """The upload is no more at the store, and what it held neither."""
        self.restarts += 1
        if self.restarts > self._limits.restarts:
            return self.give_up(
                Exhausted(f"the upload vanished from the store {self.restarts} times: {why.why}")
            )
        self._earlier, self._doubt, self.session = None, None, ""
        self._parts, self._leftovers, self._listed = {}, {}, {}
        self._ready, self._next, self.stored, self.reused = [], 1, 0, 0
        self._parked = [one for one in self._parked if isinstance(one, ev.Head)]
        return [ev.Forget(), self._ask(ev.Begin(self.size))]

    # -- the commit ----------------------------------------------------------------------------------------

    def _commit(self) -> list[ev.Action]:
        parts = tuple(self._parts[number] for number in sorted(self._parts))
        # P44: dense, and of the right length, whatever went before.
        dense = [part.number for part in parts] == list(range(1, self._count + 1))
        if not dense or sum(part.size for part in parts) != self.size:
            return self.give_up(Integrity("the parts stored are not those of the source"))
        return [self._ask(ev.Commit(self.session, parts))]

    def _in_doubt(self, request: ev.Commit, event: ev.Told | ev.Dropped) -> list[ev.Action]:
        """P45: whatever the answer was, the object itself tells whether it was made."""
        told = event if isinstance(event, ev.Told) else None
        if told and told.status == 400 and not told.gone and self.restarts < self._limits.restarts:
            self.restarts += 1  # not the parts it has: ask which those are
            return [self._ask(self._look())]
        if told and told.spoilt:  # nor has it any others
            return self.give_up(Integrity(f"the store has other bytes than were sent: {told.why}"))
        delay = 0.0 if told and told.gone else self._failed(request, event)
        if isinstance(delay, Refused):
            return self.give_up(delay)
        self._doubt = event
        return self._or_give_up(delay, lambda seconds: [self._ask(ev.Head(), seconds)])

    def _seen(self, told: ev.Told) -> list[ev.Action]:
        """What the store shows after the commit, or while it is not known whether there was one."""
        if told.status not in (200, 404, *MUTE):
            return self._retry(ev.Head(), told)
        mute = told.status in MUTE and self._committed is not None
        # What may not be looked at was described in the answer to the commit.
        shown = self._committed if mute and self._committed else told
        wrong = self._differs(told) if told.status == 200 else ""
        proof, other = self._compare(shown)
        if (told.status == 200 or mute) and proof and not (wrong or other):
            return [ev.Finish(proof)]
        if self._committed is not None:
            # The tags of encrypted objects may be anything, but not another than it was given then.
            tag = _tag(shown)
            opaque = tag == _tag(self._committed) and not self.shape.dialect.etag_is_md5(shown.headers)
            if not (wrong or other) and told.status != 404 and (opaque or (mute and not tag)):
                return [ev.Finish(None)]
            return self._integrity(wrong or other or f"shows another: {told.why}, ETag {tag!r}")
        if isinstance(self._doubt, ev.Told) and self._doubt.gone:
            return self._again_from_nothing(self._doubt)
        return self._commit()

    def _compare(self, told: ev.Told) -> tuple[str, str]:
        """By what an answer proves the object to be of our parts, and how it shows another."""
        parts = [self._parts[number] for number in sorted(self._parts)]
        tag, whole = self.shape.combined(parts), crc32_of((part.crc32, part.size) for part in parts)
        other, tagged = _other_sum(told, whole), bool(tag) and tag == _tag(told)
        proofs = [f"md5 of the parts' md5s (etag), {len(parts)} parts"] * tagged
        # Alone the sum is enough only where the tag, being no MD5, does not say otherwise.
        opaque = not self.shape.dialect.etag_is_md5(told.headers)
        if told.crc32 is not None and told.crc32 == whole and (tagged or opaque):
            proofs.append("crc32 of the whole")
        return ", ".join(proofs), other

    def _unable(self, request: ev.Request, told: ev.Told) -> list[ev.Action]:
        return self._seen(told) if isinstance(request, ev.Head) else super()._unable(request, told)

    # -- the end -------------------------------------------------------------------------------------------

    @property
    def _settled(self) -> bool:
        return self._committed is not None

    def _removal(self) -> ev.Abort:
        return ev.Abort(self.session, "", self._count)


def _other_sum(told: ev.Told, crc32: int | None) -> str:
    if None in (told.crc32, crc32) or told.crc32 == crc32:
        return ""
    return f"its CRC-32 is {told.crc32:08x}, not that of the source"


def _tag(told: ev.Told) -> str:
    return told.headers.get("etag", "").strip('"')


def _same(ours: ev.Stored, theirs: ev.Stored) -> bool:
    return ours.size == theirs.size and ours.tag.strip('"') == theirs.tag.strip('"')
