"""The one place where the machine's decisions meet a store, a sink and a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

from reknit import stores
from reknit._checksums import Digest
from reknit._errors import StoreFault
from reknit._events import (
    Action,
    Answer,
    Close,
    Data,
    Dropped,
    End,
    Event,
    Fail,
    Finish,
    Pin,
    Read,
    Renew,
    Renewed,
    Request,
    Sized,
    Skip,
    Stat,
    Truncate,
    Verified,
    Verify,
    Wait,
)
from reknit._machine import Machine
from reknit._options import Options, Progress, Report
from reknit._sink import Sink

ProgressCallback = Callable[[Progress], None]


class Transfer:
    """Carries out one action after the other."""

    def __init__(
        self,
        store: stores.Store,
        machine: Machine,
        sink: Sink,
        options: Options,
        progress: ProgressCallback | None,
    ) -> None:
        self._store, self._machine, self._sink = store, machine, sink
        self._options, self._progress = options, progress
        self._body: stores.Response | None = None
        self._began = time.monotonic()
        self._next: list[Action] = machine.start()
        self.verified: tuple[Digest, ...] = ()

    def step(self) -> bool:
        """Carry out the actions at hand; False once the whole object is in the sink. Raises what ends it."""
        event: Event | None = None
        for action in self._next:
            if isinstance(action, Finish):
                self._tell()
                return False
            event = self._do(action)
        assert event is not None, "the last action of the machine brings an event"
        self._next = self._machine.receive(event)
        return True

    def close(self) -> None:
        """Drop the answer at hand, if any."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def report(self) -> Report:
        """What it took."""
        machine = self._machine
        proofs = ", ".join(f"{digest.algorithm} ({digest.source})" for digest in self.verified)
        return Report(
            machine.held,
            machine.requests,
            machine.resumes,
            machine.restarts,
            machine.wasted,
            proofs or None,
            time.monotonic() - self._began,
        )

    def _do(self, action: Action) -> Event | None:
        match action:
            case Read(limit):
                return self._read(limit, keep=True)
            case Skip(limit):
                return self._read(limit, keep=False)
            case Request(first, etag):
                return self._request(first, etag)
            case Close():
                self.close()
            case Pin(representation):
                self._sink.pin(representation, self._machine.wanted)
            case Truncate():
                self._sink.truncate()
            case Wait(seconds):
                self._sink.pause()
                self._options.sleep(seconds)
            case Renew():
                return self._renew()
            case Stat():
                return self._size()
            case Verify(digests):
                self.verified = digests
                return Verified(self._sink.wrong(digests))
            case Fail(error):
                raise error
        return None

    def _request(self, first: int, etag: str | None) -> Event:
        self.close()
        try:
            self._body = self._store.open_range(first, None, etag)
        except StoreFault as fault:
            return Dropped(fault)
        return Answer(self._body.status, self._body.headers, time.time())

    def _read(self, limit: int | None, *, keep: bool) -> Event:
        assert self._body is not None
        size = self._options.buffer if limit is None else min(limit, self._options.buffer)
        try:
            data = self._body.read(size)
        except StoreFault as fault:
            return Dropped(fault)
        if not data:
            return End()
        if keep:
            self._sink.write(memoryview(data))
            self._tell(len(data))
        return Data(len(data))

    def _renew(self) -> Event:
        try:
            return Renewed(self._store.renew())
        except StoreFault as fault:
            return Dropped(fault)

    def _size(self) -> Event:
        try:
            head = self._store.stat()
        except StoreFault:
            return Sized(None)
        head.close()
        return Sized(head.headers if head.status == 200 else None)

    def _tell(self, fresh: int = 0) -> None:
        if self._progress is not None:
            machine = self._machine
            total = machine.representation.total if machine.representation else None
            self._progress(Progress(machine.held + fresh, total, machine.resumes, machine.restarts))
