"""Every schedule of a few faults against a model store: the object is the source, or it is not there.

A model takes one fault per request; each machine is driven as the loop would, with what is under way answered
in either order. After each run: no wrong object, a stated reason for every failure, nothing left in the store
that is not recorded, and an end within bounds.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import zlib
from dataclasses import dataclass, field, replace

import pytest

from reknit import Exhausted, Integrity, Refused, ReknitError, SourceError
from reknit import _upload_events as ev
from reknit._errors import StoreFault
from reknit._representation import Dialect
from reknit._retry import Limits
from reknit._upload_offset import Offset
from reknit._upload_parts import Leftover, Parts
from reknit._upload_policy import Removal
from reknit._upload_whole import Whole

LIMITS = Limits(attempts=6)
OLD = b"an older object"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def combined(parts) -> str:
    return f"{md5(''.join(part.tag for part in parts).encode())}-{len(parts)}"


def shape(kind: str, **also) -> ev.Shape:
    return ev.Shape(kind, Dialect("If-Match", lambda headers: True), combined=combined, **also)


@dataclass
class Model:
    """A store with room for one object. `faults` holds what becomes of the requests, in turn:

    reset     nothing was done, and nothing answered       lost      done, and the answer lost
    refused   no connection                                503       nothing was done
    500       done, and answered by 500                    401       new credentials are wanted
    403       refused for good                             spoilt    the bytes were refused as damaged
    bad       other bytes were stored, and it says which   fewer     less was stored than was sent
    gone      the session is dropped                       404       there is no such bucket
    """

    faults: list[str] = field(default_factory=list)
    object: bytes | None = OLD
    tag: str = ""
    sessions: dict[str, dict[int, bytes]] = field(default_factory=dict)
    grown: dict[str, bytes] = field(default_factory=dict)
    made: int = 0
    renewals: int = 9
    log: list[str] = field(default_factory=list)
    lost_begins: int = 0
    page: int = 2
    most: int | None = None
    spared: tuple[str, ...] = ()  # requests that meet no fault
    tagged: bool = True  # a PUT is answered with the tag
    muted: bool = False  # nobody may look at the object
    forgets: bool = False  # a session that is complete is not known any more

    def ask(self, request: ev.Request, data: bytes) -> ev.Event:
        """`data` is the body."""
        name = type(request).__name__
        self.log.append(name)
        if isinstance(request, ev.Renew):
            self.renewals -= 1
            return ev.Renewed(self.renewals >= 0)
        fault = self.faults.pop(0) if self.faults and name not in self.spared else "ok"
        self.muted = self.muted or (name == "Head" and fault in ("401", "403"))
        if fault in ("reset", "refused"):
            return ev.Dropped(StoreFault(fault.replace("refused", "connect"), fault))
        if fault in ("503", "401", "403", "404"):
            return ev.Told(int(fault), {})
        if fault == "spoilt" and data:
            return ev.Told(400, {}, spoilt=True)
        if fault == "gone":
            self.sessions.clear()
            self.grown.clear()
        if fault == "bad":
            data = bytes(byte ^ 1 for byte in data)
        told = getattr(self, "do_" + name.lower())(request, data[:-1] if fault == "fewer" else data)
        if fault in ("lost", "500"):
            self.lost_begins += name == "Begin"
            lost = ev.Dropped(StoreFault("reset", "lost"))
            return lost if fault == "lost" else ev.Told(500, {})
        return told

    def do_put(self, request, data):
        self.object, self.tag = data, md5(data)
        return ev.Told(200, {"etag": self.tag} if self.tagged else {})

    def do_begin(self, request, data):
        self.made += 1
        name = f"s{self.made}"
        self.sessions[name], self.grown[name] = {}, b""
        return ev.Told(200, {}, session=name, offset=0, most=self.most)

    def do_send(self, request, data):
        piece = request.piece
        if request.session not in self.sessions:
            return ev.Told(404, {}, gone=True)
        if self.kind == "parts":
            self.sessions[request.session][piece.number] = data
            return ev.Told(200, {"etag": md5(data)})
        if piece.offset != len(self.grown[request.session]):
            return ev.Told(409, {})
        self.grown[request.session] += data
        at = len(self.grown[request.session])
        complete = piece.last and len(data) == piece.size
        if complete:
            self.object, self.tag = self.grown[request.session], md5(self.grown[request.session])
            if self.forgets:
                del self.sessions[request.session]
        return ev.Told(204, {}, offset=at, complete=complete)

    kind = "parts"

    def do_look(self, request, data):
        if request.session not in self.sessions:
            return ev.Told(404, {}, gone=True)
        if self.kind == "offset":
            at = len(self.grown[request.session])
            whole = self.object == self.grown[request.session]
            return ev.Told(204, {}, offset=at, complete=whole)
        parts = sorted(self.sessions[request.session].items())
        after = int(request.after or 0)
        page = [(n, d) for n, d in parts if n > after][: self.page]
        more = str(page[-1][0]) if page and page[-1][0] != parts[-1][0] else ""
        return ev.Told(200, {}, parts=tuple(ev.Stored(n, len(d), md5(d)) for n, d in page), more=more)

    def do_commit(self, request, data):
        parts = self.sessions.get(request.session)
        if parts is None:
            return ev.Told(404, {}, gone=True)
        if any(part.tag != md5(parts.get(part.number, b"")) for part in request.parts):
            return ev.Told(400, {})
        self.object = b"".join(parts[part.number] for part in request.parts)
        self.tag = combined(request.parts)
        del self.sessions[request.session]
        return ev.Told(200, {"etag": self.tag})

    def do_abort(self, request, data):
        if request.session not in self.sessions:
            return ev.Told(404, {}, gone=True)
        del self.sessions[request.session]
        return ev.Told(204, {})

    def do_head(self, request, data):
        if self.object is None:
            return ev.Told(404, {})
        return ev.Told(200, {"content-length": str(len(self.object)), "etag": self.tag})


@dataclass
class Outcome:
    """How it ended: `error` None for success; `notes` is the journal."""

    error: ReknitError | None
    verified: str | None
    notes: list[object]
    waits: list[float]
    steps: int
    orphan: str = ""


def play(machine, model: Model, data: bytes, *, newest_first: bool = False, source=None) -> Outcome:
    """Carry out what the machine asks for, one at a time, of those under way the oldest or the newest.

    `source` may fail a request of ours: it is asked with each, and returns an error or None.
    """
    pending: list[ev.Request] = []
    notes: list[object] = []
    waits: list[float] = []
    orphan = ""
    actions = list(machine.start())
    for steps in range(2000):
        for at, action in enumerate(actions):
            match action:
                case ev.Do(request, delay):
                    pending.append(request)
                    waits.append(delay)
                case ev.Note(entry):
                    notes.append(entry)
                case ev.Forget():
                    notes.clear()
                case ev.Orphan(why):
                    orphan = why
                case ev.Finish(verified):
                    assert at == len(actions) - 1
                    assert not pending, "an end while something is under way"
                    return Outcome(None, verified, notes, waits, steps)
                case ev.Fail(error):
                    assert at == len(actions) - 1
                    assert not pending, "an end while something is under way"
                    return Outcome(error, None, notes, waits, steps, orphan)
        assert pending, "nothing to wait for"
        request = pending.pop(-1 if newest_first else 0)
        actions = machine.receive(request, event(request, model, data, source))
    raise AssertionError("no end in sight")


def event(request: ev.Request, model: Model, data: bytes, source) -> ev.Event:
    error = source(request) if source else None
    if error is not None:
        return ev.Broken(error)
    if isinstance(request, ev.Load):
        piece = request.piece
        part = data[piece.offset : piece.offset + piece.size]
        return ev.Loaded(md5(part), zlib.crc32(part))
    if isinstance(request, ev.Hash):
        return ev.Hashed(next((one for one in request.digests if one.value != md5(data)), None))
    piece = getattr(request, "piece", None)
    return model.ask(request, data[piece.offset : piece.offset + piece.size] if piece else b"")


def judge(outcome: Outcome, model: Model, data: bytes, *, keep: bool = True) -> None:
    """What has to hold after any run."""
    if outcome.error is None:
        assert model.object == data
        assert outcome.verified or model.muted
        left = set(model.sessions) if model.kind == "parts" else set()
    else:
        assert isinstance(outcome.error, (Exhausted, Refused, Integrity, SourceError)), outcome.error
        # It may have been made, and every answer been lost; but another object than ours is never made.
        assert model.object in (OLD, data) or isinstance(outcome.error, Integrity)
        left = set(model.sessions)
        if isinstance(outcome.error, Exhausted) and keep and left and model.kind == "parts":
            left -= {note for note in outcome.notes if isinstance(note, str)}
        if outcome.orphan or model.kind == "offset":
            left = set()
    # What was begun and never told to us cannot be known.
    assert len(left) <= model.lost_begins, (left, outcome)


DATA = bytes(range(10))
PART = ("reset", "lost", "refused", "503", "500", "401", "403", "404", "spoilt", "bad", "fewer", "gone")


def parts_machine(size: int = 10, part: int = 4, at_once: int = 1, earlier=None, keep: bool = True) -> Parts:
    return Parts(
        shape("parts", hashed=True),
        size,
        part,
        LIMITS,
        lambda: 0.5,
        at_once=at_once,
        earlier=earlier,
        keep=keep,
    )


def schedules(kinds: tuple[str, ...], length: int, most: int):
    """Up to `most` faults at any of the first `length` requests."""
    for count in range(most + 1):
        for places in itertools.combinations(range(length), count):
            for chosen in itertools.product(kinds, repeat=count):
                schedule = ["ok"] * length
                for place, fault in zip(places, chosen, strict=True):
                    schedule[place] = fault
                yield schedule


@pytest.mark.parametrize(("at_once", "newest_first"), [(1, False), (2, False), (2, True)])
def test_parts_meet_two_faults_anywhere(at_once, newest_first) -> None:
    """Three parts: begin, send, send, send, commit, head, and four requests more."""
    done = 0
    for schedule in schedules(PART, 10, 2):
        model = Model(list(schedule))
        outcome = play(parts_machine(at_once=at_once), model, DATA, newest_first=newest_first)
        judge(outcome, model, DATA)
        done += outcome.error is None
    assert done > 4000


def test_parts_meet_three_faults_anywhere() -> None:
    """At any three of the first eight requests: begin, three parts, commit, head, and what faults added."""
    kinds = ("reset", "lost", "503", "500", "401", "spoilt", "bad", "gone")
    for schedule in schedules(kinds, 8, 3):
        model = Model(list(schedule))
        judge(play(parts_machine(), model, DATA), model, DATA)


def test_parts_meet_three_faults_in_a_row() -> None:
    """Sequences of three at every place, with and without keeping what is there."""
    for start, chosen, keep in itertools.product(range(7), itertools.product(PART, repeat=3), (True, False)):
        model = Model(["ok"] * start + list(chosen))
        outcome = play(parts_machine(keep=keep), model, DATA)
        judge(outcome, model, DATA, keep=keep)


@pytest.mark.parametrize("fault", PART)
def test_parts_meet_one_fault_for_ever(fault) -> None:
    """It ends, with a reason, whatever is wrong for good."""
    for start, at_once in itertools.product(range(8), (1, 3)):
        model = Model(["ok"] * start + [fault] * 400)
        outcome = play(parts_machine(at_once=at_once), model, DATA)
        if fault in ("reset", "refused", "503", "404", "lost"):
            assert (outcome.error is None) == (start > 5)
        judge(outcome, model, DATA)


@pytest.mark.parametrize("size", [5, 8, 9, 12])
def test_sizes_of_parts(size) -> None:
    """One byte more than a part, whole parts, and one byte more than those."""
    data = bytes(range(size))
    model = Model()
    outcome = play(parts_machine(size), model, data)
    judge(outcome, model, data)
    assert model.log.count("Send") == -(-size // 4)


def test_nothing_but_what_is_needed() -> None:
    """Without trouble: each part once, one commit, one look at the object."""
    model = Model()
    outcome = play(parts_machine(), model, DATA)
    assert model.log == ["Begin", "Send", "Send", "Send", "Commit", "Head"]
    assert outcome.verified == "md5 of the parts' md5s (etag), 3 parts"
    assert [note for note in outcome.notes if isinstance(note, str)] == ["s1"]


class Summing(Model):
    """A store that says the CRC-32 of what it has, and whose tags are those of what it was sent. `rots` says
    what it damages: the part that is sent first, the object when it is made, or neither."""

    rots = ""

    def do_send(self, request, data):
        told = super().do_send(request, data)
        if self.rots == "part" and self.log.count("Send") == 1:
            data = bytes(byte ^ 1 for byte in data)
        return replace(told, crc32=zlib.crc32(data))

    def do_commit(self, request, data):
        told = super().do_commit(request, data)
        if self.rots == "object" and told.done:
            self.object = bytes(byte ^ 1 for byte in self.object)
        return told

    def do_head(self, request, data):
        told = super().do_head(request, data)
        return replace(told, crc32=zlib.crc32(self.object)) if self.object else told


def test_proved_by_the_sum_too() -> None:
    """The CRC-32 of the whole is joined from those of its parts."""
    outcome = play(parts_machine(), Summing(), DATA)
    assert outcome.verified == "md5 of the parts' md5s (etag), 3 parts, crc32 of the whole"


def test_a_part_the_store_damaged_is_sent_again() -> None:
    """Its tag says what was sent, and its sum what was stored."""
    model = Summing()
    model.rots = "part"
    assert play(parts_machine(), model, DATA).error is None
    assert model.log.count("Send") == 4


def test_an_object_the_store_damaged_is_noticed() -> None:
    """The tag of an object of parts says nothing of what was made of them; the sum does."""
    model = Summing()
    model.rots = "object"
    error = play(parts_machine(), model, DATA).error
    assert isinstance(error, Integrity)
    assert "CRC-32" in str(error)


@pytest.mark.parametrize("rots", ["", "object"])
def test_where_tags_are_no_digests_the_sum_decides(rots) -> None:
    """As on S3 with keys of KMS: right is proved, and wrong is noticed."""
    model = Summing()
    model.rots = rots
    opaque = replace(shape("parts", hashed=True), dialect=Dialect("If-Match"), combined=lambda parts: "?")
    outcome = play(Parts(opaque, 10, 4, LIMITS, lambda: 0.5), model, DATA)
    assert isinstance(outcome.error, Integrity) == bool(rots)
    assert outcome.verified == (None if rots else "crc32 of the whole")


@pytest.mark.parametrize(
    ("tag", "verified"), [("", "md5 of the parts' md5s (etag), 3 parts"), ("other", None)]
)
def test_an_object_that_may_not_be_looked_at(tag, verified) -> None:
    """Then the answer to the commit has described it."""

    class Blind(Model):
        def do_commit(self, request, data):
            told = super().do_commit(request, data)
            return replace(told, headers={"etag": tag or told.headers["etag"]})

        def do_head(self, request, data):
            return ev.Told(403, {})

    outcome = play(parts_machine(), Blind(), DATA)
    assert outcome.verified == verified
    assert isinstance(outcome.error, Integrity) == (verified is None)


def left_by(kills: int, data: bytes = DATA) -> tuple[Model, Leftover]:
    """What is in store and journal after so many requests, when the process is killed."""
    model, machine = Model(), parts_machine(len(data))
    notes: list[object] = []
    pending = []
    actions = list(machine.start())
    while True:
        pending += [one.request for one in actions if isinstance(one, ev.Do)]
        notes += [one.entry for one in actions if isinstance(one, ev.Note)]
        if len([name for name in model.log if name != "Renew"]) >= kills or not pending:
            break
        request = pending.pop(0)
        actions = machine.receive(request, event(request, model, data, None))
    session = next((note for note in notes if isinstance(note, str)), "none")
    return model, Leftover(session, 4, tuple(note for note in notes if isinstance(note, ev.Stored)))


@pytest.mark.parametrize("kills", range(1, 7))
@pytest.mark.parametrize("fault", ["ok", *PART])
def test_another_process_goes_on(kills, fault) -> None:
    """Killed after any request, and met by any fault at any request of the next process: what was stored and
    noted is not sent again unless the store lost it."""
    for start in range(6):
        model, earlier = left_by(kills)
        model.log.clear()
        model.faults = ["ok"] * start + [fault]
        machine = parts_machine(earlier=earlier)
        outcome = play(machine, model, DATA)
        judge(outcome, model, DATA)
        if fault == "ok":
            assert outcome.error is None
            assert model.log.count("Send") == 3 - len(earlier.parts)
            assert machine.reused == sum(part.size for part in earlier.parts)


def test_leftovers_of_other_bytes_are_sent_anew() -> None:
    """P48, B149: same upload, same sizes, and other content: none of it is reused."""
    model, earlier = left_by(4)
    other = bytes(reversed(DATA))
    machine = parts_machine(earlier=earlier)
    outcome = play(machine, model, other)
    judge(outcome, model, other)
    assert (machine.reused, model.log.count("Send")) == (0, 6)


def test_leftovers_of_another_part_size_are_none() -> None:
    """P48: they are other parts."""
    model, earlier = left_by(4)
    machine = parts_machine(part=5, earlier=earlier)
    outcome = play(machine, model, DATA)
    assert outcome.error is None
    assert (model.object, machine.reused) == (DATA, 0)


@pytest.mark.parametrize("lie", ["tag", "size", "md5", "number"])
def test_leftovers_that_disagree_are_sent_anew(lie) -> None:
    """P48: the store, the journal and the bytes have to agree, part by part."""
    model, earlier = left_by(4)
    first = earlier.parts[0]
    wrong = {"tag": "x", "size": 3, "md5": "x", "number": 2}
    parts = (replace(first, **{lie: wrong[lie]}), *earlier.parts[1:])
    machine = parts_machine(earlier=replace(earlier, parts=parts))
    outcome = play(machine, model, DATA)
    judge(outcome, model, DATA)
    assert machine.reused < sum(part.size for part in earlier.parts)


def test_committed_by_the_process_that_was_killed() -> None:
    """The session is gone since it was committed: the object proves it, and nothing is sent."""
    model, earlier = left_by(5)
    assert not model.sessions
    model.log.clear()
    machine = parts_machine(earlier=earlier)
    outcome = play(machine, model, DATA)
    assert outcome.error is None
    assert model.log == ["Look", "Commit", "Head"]


def test_a_lost_commit_is_decided_by_the_object() -> None:
    """P45, B141: it is there; it is not committed again, nor sent."""
    model = Model(["ok"] * 4 + ["lost"])
    outcome = play(parts_machine(), model, DATA)
    assert outcome.error is None
    assert model.log == ["Begin", "Send", "Send", "Send", "Commit", "Head"]


def test_a_commit_answered_by_an_error_is_decided_by_the_object() -> None:
    """P45, B140: a 200 with an error inside comes as the status of the error; the object is not there."""
    model = Model(["ok"] * 4 + ["503"])
    outcome = play(parts_machine(), model, DATA)
    assert outcome.error is None
    assert model.log[4:] == ["Commit", "Head", "Commit", "Head"]


def test_a_part_the_store_lost_is_sent_again() -> None:
    """P44: the commit is refused, the listing tells which part it is."""
    model, machine = Model(), parts_machine()

    def lose(request):
        if isinstance(request, ev.Commit) and model.log.count("Commit") == 0:
            del model.sessions["s1"][2]

    outcome = play(machine, model, DATA, source=lose)
    judge(outcome, model, DATA)
    assert outcome.error is None
    assert model.log == [*["Begin", "Send", "Send", "Send", "Commit"], *["Look", "Send", "Commit", "Head"]]


def test_aborted_when_it_fails_for_good() -> None:
    """P43: what is of no use any more is removed, after what is under way."""
    for at_once, newest_first in itertools.product((1, 2, 3), (False, True)):
        model = Model(["ok", "403", "403", "403"], renewals=0, spared=("Begin", "Abort"))
        outcome = play(parts_machine(at_once=at_once), model, DATA, newest_first=newest_first)
        assert isinstance(outcome.error, Refused)
        assert (model.sessions, model.log[-1], outcome.notes) == ({}, "Abort", [])


def test_the_abort_is_repeated_and_then_recorded() -> None:
    """P43, B142: the outage that failed the upload fails its abort as well."""
    model = Model(["ok", "ok", "403", "503", "reset"], renewals=0)
    outcome = play(parts_machine(), model, DATA)
    assert (model.sessions, outcome.orphan) == ({}, "")
    model = Model(["ok", "ok", "403", *["503"] * 20], renewals=0)
    outcome = play(parts_machine(), model, DATA)
    assert model.log.count("Abort") == 7
    assert "could not be removed: status 503" in outcome.orphan
    model.faults.clear()
    gone = play(Removal(shape("parts"), LIMITS, lambda: 0.5, "s1", 3), model, DATA)
    assert (gone.verified, model.sessions) == ("gone", {})


def test_kept_when_the_store_kept_failing() -> None:
    """What is there is left for the next call, if that is wanted, and else removed."""
    model = Model(["ok", "ok", *["503"] * 7])
    outcome = play(parts_machine(), model, DATA)
    assert isinstance(outcome.error, Exhausted)
    assert list(model.sessions) == ["s1"]
    model = Model(["ok", "ok", *["503"] * 7])
    outcome = play(parts_machine(keep=False), model, DATA)
    assert (isinstance(outcome.error, Exhausted), model.sessions) == (True, {})


@pytest.mark.parametrize("kind", [ev.Load, ev.Commit])
def test_a_source_that_fails_is_not_published(kind) -> None:
    """P42: at every read, and at the last look before the commit."""
    for nth, at_once in itertools.product(range(3), (1, 2)):
        model, seen = Model(), []

        def fail(request, nth=nth, seen=seen):
            if isinstance(request, kind):
                seen.append(request)
                if len(seen) == nth + 1:
                    return SourceError("it has shrunk")
            return None

        outcome = play(parts_machine(at_once=at_once), model, DATA, source=fail)
        if len(seen) > nth:
            assert isinstance(outcome.error, SourceError)
            assert (model.object, model.sessions) == (OLD, {})


def test_memory_is_bounded() -> None:
    """Never more parts under way than are allowed, and one more."""
    data = bytes(200)
    for at_once, newest_first in itertools.product((1, 2, 5), (False, True)):
        machine, model = parts_machine(200, at_once=at_once), Model(["ok", "reset", "503", "lost"] * 3)
        held, most = set(), []
        actions, pending = list(machine.start()), []
        while not any(isinstance(one, (ev.Finish, ev.Fail)) for one in actions):
            pending += [one.request for one in actions if isinstance(one, ev.Do)]
            held |= {one.piece.number for one in pending if isinstance(one, ev.Load)}
            held -= {one.entry.number for one in actions if isinstance(one, ev.Note) if one.entry != "s1"}
            sending = [one for one in pending if isinstance(one, ev.Send)]
            most.append((len(held), len(sending)))
            request = pending.pop(-1 if newest_first else 0)
            actions = machine.receive(request, event(request, model, data, None))
        assert max(most) <= (at_once + 1, at_once)
        assert model.object == data


def test_waits_follow_the_policy() -> None:
    """The first drop on a good line is met at once; then the waits double; Retry-After is obeyed."""
    machine = Parts(shape("parts"), 3 << 20, 1 << 20, LIMITS, lambda: 0.5)
    [begin] = machine.start()
    actions = machine.receive(begin.request, ev.Told(200, {}, session="s"))
    loads = [one.request for one in actions if isinstance(one, ev.Do)]
    [send] = [one for one in machine.receive(loads[0], ev.Loaded("m")) if isinstance(one.request, ev.Send)]
    drop = ev.Dropped(StoreFault("reset", "reset"))
    waits = []
    for told in (drop, drop, drop, ev.Told(503, {"retry-after": "7"})):
        [again] = machine.receive(send.request, told)
        waits.append(again.delay)
    assert waits == [0.0, 0.5, 1.0, 7.0]


# -- one request -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashed", [True, False])
def test_whole_meets_three_faults_anywhere(hashed) -> None:
    """PUT and HEAD, and four requests more: the store says what it has, and that is compared."""
    for schedule in schedules(PART, 6, 3):
        model = Model(list(schedule), tagged=hashed)
        outcome = play(Whole(shape("whole", hashed=hashed), 10, LIMITS, lambda: 0.5), model, DATA)
        if hashed or not model.muted:  # (who neither hashes nor may look has the store's word alone)
            judge(outcome, model, DATA)
    assert play(Whole(shape("whole"), 10, LIMITS, lambda: 0.5), Model(), DATA).verified == "md5 (etag)"


@pytest.mark.parametrize("fault", PART)
def test_whole_meets_one_fault_for_ever(fault) -> None:
    """It ends, with a reason."""
    model = Model([fault] * 400)
    outcome = play(Whole(shape("whole", hashed=True), 10, LIMITS, lambda: 0.5), model, DATA)
    judge(outcome, model, DATA)
    assert (outcome.error is None) == (fault == "gone")


def test_an_empty_object() -> None:
    """No bytes are an object, too."""
    model = Model()
    outcome = play(Whole(shape("whole", hashed=True), 0, LIMITS, lambda: 0.5), model, b"")
    assert (outcome.error, model.object) == (None, b"")


# -- one resource that grows -------------------------------------------------------------------------------


def growing(**also) -> Model:
    model = Model(**also)
    model.kind = "offset"
    return model


def offset_machine(size: int = 10, **also) -> Offset:
    return Offset(shape("offset"), size, LIMITS, lambda: 0.5, **also)


@pytest.mark.parametrize("most", [None, 4])
@pytest.mark.parametrize("forgets", [False, True])
def test_offset_meets_three_faults_anywhere(most, forgets) -> None:
    """P47: after whatever goes wrong it goes on where the store is; fewer are taken as they are."""
    kinds = ("reset", "lost", "refused", "503", "500", "401", "403", "fewer", "gone", "spoilt")
    for schedule in schedules(kinds, 7, 3 if most is None else 2):
        model = growing(faults=list(schedule), most=most, forgets=forgets)
        outcome = play(offset_machine(), model, DATA)
        judge(outcome, model, DATA)


@pytest.mark.parametrize("fault", ["reset", "lost", "503", "500", "401", "403", "gone", "spoilt", "fewer"])
def test_offset_meets_one_fault_for_ever(fault) -> None:
    """It ends."""
    for start in range(5):
        model = growing(faults=["ok"] * start + [fault] * 400, most=3)
        judge(play(offset_machine(), model, DATA), model, DATA)


def test_a_failing_question_is_asked_again() -> None:
    """P47, B143: an append that fails and a status that fails are no reason to begin anew."""
    model = growing(faults=["ok", "fewer", "500", "500", "503"])
    outcome = play(offset_machine(), model, DATA)
    assert (outcome.error, model.log.count("Begin")) == (None, 1)


def test_more_than_was_sent_is_fatal() -> None:
    """P47, B146: a store that has more than it was given has something else."""
    model = growing()
    machine = offset_machine(size=10)
    [begin] = machine.start()
    [_, send] = machine.receive(begin.request, replace(model.ask(begin.request, b""), most=4))
    send = machine.receive(send.request, ev.Told(204, {}, offset=4))[0]
    [look] = machine.receive(send.request, ev.Dropped(StoreFault("reset", "reset")))
    [abort] = machine.receive(look.request, ev.Told(204, {}, offset=9))
    assert isinstance(abort.request, ev.Abort)
    assert isinstance(machine.error, Integrity)


def test_a_mismatch_is_answered_by_the_question() -> None:
    """P47, B144: 409 says that our offset is not the store's."""
    model = growing(faults=["ok", "fewer"])
    outcome = play(offset_machine(), model, DATA)
    assert outcome.error is None
    model = growing()
    machine = offset_machine()
    [begin] = machine.start()
    [_, send] = machine.receive(begin.request, model.ask(begin.request, b""))
    [look] = machine.receive(send.request, ev.Told(409, {}))
    assert isinstance(look.request, ev.Look)


def test_an_empty_resource() -> None:
    """Begun, and completed by an append of nothing."""
    model = growing()
    outcome = play(offset_machine(0), model, b"")
    assert (outcome.error, model.object) == (None, b"")
    assert model.log == ["Begin", "Send", "Head"]


@pytest.mark.parametrize("there", range(11))
def test_another_process_goes_on_at_the_offset(there) -> None:
    """What is there is not sent again."""
    model = growing()
    model.sessions["old"], model.grown["old"] = {}, DATA[:there]
    machine = offset_machine(earlier="old")
    outcome = play(machine, model, DATA)
    assert (outcome.error, model.object, machine.reused) == (None, DATA, there)
    assert "Begin" not in model.log


def test_parts_under_random_weather() -> None:
    """Many parts, many faults, any order: seeded."""
    for seed in range(400):
        dice = random.Random(seed)
        kinds = ("ok",) * 8 + PART
        faults = [dice.choice(kinds) for _ in range(60)]
        model = Model(faults, page=dice.randint(1, 5))
        data = bytes(dice.randrange(256) for _ in range(dice.randint(5, 60)))
        machine = parts_machine(len(data), at_once=dice.randint(1, 4))
        outcome = play(machine, model, data, newest_first=dice.random() < 0.5)
        judge(outcome, model, data)
