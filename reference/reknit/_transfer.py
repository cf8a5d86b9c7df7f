"""The one place where the machine's decisions meet a store, a sink and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from reknit import _events as ev
from reknit import stores
from reknit._checksums import Digest, proved, unproved
from reknit._errors import StoreFault
from reknit._hashing import Hashing
from reknit._machine import Machine
from reknit._options import Options, Progress, Report
from reknit._ranges import WHOLE, Slice
from reknit._representation import Representation
from reknit._sink import Earlier, Sink

ProgressCallback = Callable[[Progress], None]


class Transfer:
    """Carries out one action after the other. `earlier` is what the sink holds already; `bound` is the only
    version that will do, and `part` one part of several (see Machine).
    """

    def __init__(
        self,
        store: stores.Store,
        sink: Sink,
        options: Options,
        progress: ProgressCallback | None = None,
        *,
        part: Slice = WHOLE,
        rewindable: bool = True,
        earlier: Earlier | None = None,
        bound: Representation | None = None,
    ) -> None:
        self._store, self._sink, self._options, self._progress = store, sink, options, progress
        self._part = part
        self._machine = Machine(
            store.dialect,
            options.limits,
            options.roll,
            part=part,
            rewindable=rewindable,
            # The digests of the whole say nothing about a part: whoever assembles the parts verifies.
            verify=options.verify and bound is None,
            expect=options.expected if bound is None else None,
            known=earlier.representation if earlier else bound,
            held=earlier.held if earlier else 0,
            bound=bound is not None,
        )
        self._body: stores.Response | None = None
        self._hashing = Hashing()
        self._verified: tuple[Digest, ...] = ()
        self._began = time.monotonic()
        self._hash()
        if self._hashing and earlier:
            for block in earlier.kept():
                self._hashing.update(block)
        self._next: list[ev.Action] = self._machine.start()

    def step(self) -> bool:
        """Carry out the actions at hand; False once the whole object is in the sink. Raises what ends it."""
        event: ev.Event | None = None
        for action in self._next:
            if isinstance(action, ev.Finish):
                self._tell()
                return False
            event = self._do(action)
        assert event is not None, "the last action of the machine brings an event"
        self._next = self._machine.receive(event)
        return True

    def close(self) -> None:
        """Drop the answer at hand, if any."""
        self._drop()
        self._hashing.close()

    def run(self) -> None:
        """To the end. Raises what ends it."""
        while self.step():
            pass

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    @property
    def representation(self) -> Representation | None:
        """The version it is bound to, once there is one."""
        return self._machine.representation

    def report(self) -> Report:
        """What it took."""
        machine = self._machine
        return Report(
            machine.held,
            machine.requests,
            machine.resumes,
            machine.restarts,
            machine.wasted,
            proved(self._verified),
            time.monotonic() - self._began,
            self._unverified(),
        )

    def _unverified(self) -> str:
        if self._verified:
            return ""
        known = self.representation or Representation()
        return unproved(known.digests, known.etag, verify=self._options.verify, part=not self._part.whole)

    def _do(self, action: ev.Action) -> ev.Event | None:
        match action:
            case ev.Read(limit):
                return self._read(limit, keep=True)
            case ev.Skip(limit):
                return self._read(limit, keep=False)
            case ev.Request():
                return self._request(action)
            case ev.Close():
                self._drop()
            case ev.Pin(representation):
                self._sink.pin(representation)
                if not self._machine.held:
                    self._hash()
            case ev.Truncate():
                self._sink.truncate()
            case ev.Wait(seconds):
                self._sink.pause()
                self._options.sleep(seconds)
            case ev.Renew():
                return self._renew()
            case ev.Stat():
                return self._size()
            case ev.Verify(digests):
                self._verified = digests
                return ev.Verified(self._hashing.wrong(digests))
            case ev.Fail(error):
                raise error
        return None

    def _request(self, asked: ev.Request) -> ev.Event:
        self._drop()
        try:
            self._body = self._store.open_range(asked.first, asked.last, asked.etag)
        except StoreFault as fault:
            return ev.Dropped(fault)
        return ev.Answer(self._body.status, self._body.headers, time.time())

    def _read(self, limit: int | None, *, keep: bool) -> ev.Event:
        assert self._body is not None
        size = self._options.buffer if limit is None else min(limit, self._options.buffer)
        try:
            data = self._body.read(size)
        except StoreFault as fault:
            return ev.Dropped(fault)
        if not data:
            return ev.End()
        if keep:
            self._sink.write(memoryview(data))
            self._hashing.update(data)
            self._tell(len(data))
        return ev.Data(len(data))

    def _renew(self) -> ev.Event:
        try:
            return ev.Renewed(self._store.renew())
        except StoreFault as fault:
            return ev.Dropped(fault)

    def _size(self) -> ev.Event:
        try:
            head = self._store.stat()
        except StoreFault:
            return ev.Sized(None)
        head.close()
        return ev.Sized(head.headers if head.status == 200 else None)

    def _tell(self, fresh: int = 0) -> None:
        if self._progress is not None:
            machine = self._machine
            self._progress(Progress(machine.held + fresh, machine.target, machine.resumes, machine.restarts))

    def _hash(self) -> None:
        """Begin at zero with what will be verified."""
        self._hashing.close()
        self._hashing = Hashing(self._machine.wanted)
