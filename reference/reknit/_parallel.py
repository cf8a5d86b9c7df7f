"""Several ranges of one version at once, into one file.

A HEAD names version and size; every range is bound to that version (RFC 9110 §15.3.7.3, §13.1.1), retried on
its own, and written at its place. The file's prefix without a hole is what is hashed, marked in the journal
and resumed from. Where ranges cannot be had, or the object changed, one plain transfer does it all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from reknit import stores
from reknit._checksums import Digest, proved, unproved
from reknit._errors import Changed, Refused, Unranged
from reknit._filesink import FileSink
from reknit._hashing import Hashing
from reknit._options import Options, Progress, Report
from reknit._pinned import by_head
from reknit._plan import Plan, range_size
from reknit._ranges import Slice
from reknit._representation import Representation
from reknit._transfer import ProgressCallback, Transfer
from reknit.stores._shared import Shared


def fill(
    store: stores.Store, sink: FileSink, options: Options, progress: ProgressCallback | None, part: Slice
) -> Report:
    """Bring `part` into the sink, by several ranges at once where `options` ask for it and the store has it.

    A plain transfer is what everything falls back on: it knows what to do with odd answers and new versions.
    """
    began = time.monotonic()
    tally = Tally()
    version = survey(store, options, part) if options.parallel > 1 else None
    if version is not None:
        ranges = Parallel(store, sink, options, progress, part, version)
        if ranges.run():
            return ranges.report(time.monotonic() - began)
        tally = ranges.tally
        options = replace(options, restarts=max(0, options.restarts - tally.restarts))
    with closing(Transfer(store, sink, options, progress, part=part, earlier=sink)) as transfer:
        transfer.run()
    last = transfer.report()
    tally.add(last)
    return tally.report(last.bytes, last.verified, time.monotonic() - began, last.unverified)


class _Stopped(BaseException):
    """Ends a worker whose download is over. Not an Exception: nothing on its way may take it for a fault."""


@dataclass
class Tally:
    """What the ranges took, for the report."""

    requests: int = 0
    resumes: int = 0
    restarts: int = 0
    wasted: int = 0

    def add(self, one: Report) -> None:
        """Count a range that is over."""
        self.requests += one.requests
        self.resumes += one.resumes
        self.restarts += one.restarts
        self.wasted += one.bytes_refetched

    def report(self, held: int, verified: str | None, seconds: float, unverified: str) -> Report:
        """The sum, and what only the whole has."""
        counts = (self.requests, self.resumes, self.restarts, self.wasted)
        return Report(held, *counts, verified, seconds, unverified)


def survey(store: stores.Store, options: Options, part: Slice) -> Representation | None:
    """The version to fetch in ranges, by one HEAD; None when ranges cannot be bound or are not worth it."""
    found = by_head(store)
    if found is None or not found.binds:
        return None
    size = part.size(found.version.total)
    if not size or size < options.parallel_above:
        return None
    return found.version if size == found.version.total else replace(found.version, digests=())


class Parallel:
    """One download of `part` of `version` into `sink`, which may hold a prefix of that version already."""

    def __init__(
        self,
        store: stores.Store,
        sink: FileSink,
        options: Options,
        progress: ProgressCallback | None,
        part: Slice,
        version: Representation,
    ) -> None:
        size = part.size(version.total)
        assert size is not None
        self._sink, self._progress = sink, progress
        self._part, self._version, self._total = part, version, size
        earlier = sink.representation
        self.tally = Tally()
        if earlier is not None and (earlier.etag, earlier.total) != (version.etag, version.total):
            self.tally.restarts, self.tally.wasted = 1, sink.held
            sink.truncate()
        if not sink.held:
            sink.pin(version)
        self._plan = Plan(
            sink.held, size, range_size(size, options.range_bytes, options.parallel), options.parallel
        )
        self._changed = threading.Condition()  # guards everything below
        self._stopped = False
        self._writing = 0  # workers in the midst of a write
        self._error: BaseException | None = None
        self._hashing = Hashing()
        self._verified: tuple[Digest, ...] = ()
        self._offers: tuple[Digest, ...] = version.digests
        # A wait ends when the download does; unless a test says how to wait.
        sleep: Callable[[float], None] = self._sleep if options.sleep is time.sleep else options.sleep
        self._options = replace(options, sleep=sleep)
        self._store = Shared(store, self._options)

    def run(self) -> bool:
        """Fetch all. False when one plain transfer has to do it, from what the sink holds then.

        Raises what a range failed with for good: the whole fails, and the sink keeps its prefix.
        """
        try:
            for number in range(self._options.parallel):
                threading.Thread(target=self._work, name=f"reknit-{number}", daemon=True).start()
            wrong = self._follow()
        except BaseException as error:
            self._stop()
            # What lies in a row is kept; nothing of this is lost to whoever comes next.
            for _ in self._sink.absorb(self._plan.frontier):
                pass
            return self._give_up(error)
        finally:
            self._hashing.close()
        self._stop()
        if wrong is not None:
            self._empty()  # the path may have spoilt bytes: the plain transfer is the clean start that is due
        return wrong is None

    def report(self, seconds: float) -> Report:
        """What it took, when `run` was True."""
        why = ""
        if not self._verified:
            etag, part = self._version.etag, not self._part.whole
            why = unproved(self._offers, etag, verify=self._options.verify, part=part)
        return self.tally.report(self._sink.held, proved(self._verified), seconds, why)

    def _give_up(self, error: BaseException) -> bool:
        """False when a plain transfer may still succeed."""
        if isinstance(error, Unranged):
            self._sink.rewind()
            return False
        if isinstance(error, Changed) and self.tally.restarts < self._options.restarts:
            self.tally.restarts += 1
            self._empty()
            return False
        raise error

    def _empty(self) -> None:
        self.tally.wasted += self._plan.done
        self._sink.truncate()

    # -- the thread of the caller: everything that goes in order -------------------------------------------

    def _follow(self) -> Digest | None:
        """Hash and mark the growing prefix until all of it is there; the first digest that differs."""
        wanted: tuple[Digest, ...] | None = None
        while True:
            with self._changed:
                while self._error is None and self._plan.frontier == self._sink.held < self._total:
                    self._changed.wait()
                if self._error is not None:
                    raise self._error
                frontier, done = self._plan.frontier, self._plan.done
                offers, resumes = self._offers, self.tally.resumes
            if wanted is None:
                wanted = self._options.wanted(offers)
                self._hashing = Hashing(wanted)
                if self._hashing:
                    for kept in self._sink.kept():
                        self._hashing.update(kept)
            for block in self._sink.absorb(frontier):
                self._hashing.update(block)
            if self._progress is not None:
                self._progress(Progress(done, self._total, resumes, self.tally.restarts))
            if frontier == self._total:
                self._verified = wanted
                return self._hashing.wrong(wanted)

    def _stop(self) -> None:
        """From here on no worker writes. They end by themselves: at the next byte, or the idle timeout."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            while self._writing:
                self._changed.wait()

    # -- the workers --------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (part := self._take()) is not None:
                self._fetch(part)
        except _Stopped:
            pass
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()

    def _take(self) -> Slice | None:
        with self._changed:
            while not self._stopped and self._error is None and not self._plan.exhausted:
                if part := self._plan.take():
                    return part
                self._changed.wait()
            return None

    def _fetch(self, part: Slice) -> None:
        piece = _Piece(self, part)
        for left in range(self._options.attempts, -1, -1):
            before = self._plan.done
            try:
                self._attempt(piece)
                break
            except Refused as error:
                # Credentials that work for the other ranges have been renewed, or expired again, meanwhile.
                if not left or error.status != 401 or self._plan.done == before:
                    raise

    def _attempt(self, piece: _Piece) -> None:
        there = Slice(self._part.first + piece.at, piece.end - piece.at)
        transfer = Transfer(self._store, piece, self._options, part=there, bound=self._version)
        with closing(transfer):
            try:
                transfer.run()
            finally:
                with self._changed:
                    self.tally.add(transfer.report())

    def _told(self, representation: Representation) -> None:
        """A range's own answer may offer a digest of the whole that the HEAD did not."""
        if self._part.size(self._version.total) == self._version.total:
            with self._changed:
                new = [digest for digest in representation.digests if digest not in self._offers]
                self._offers += tuple(new)

    def _wrote(self, offset: int, data: memoryview) -> None:
        with self._changed:
            if self._stopped:
                raise _Stopped
            self._writing += 1
        try:
            self._sink.put(offset, data)
            with self._changed:
                before = self._plan.frontier
                self._plan.wrote(offset, len(data))
                if self._plan.frontier != before:
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._writing -= 1
                if self._stopped:
                    self._changed.notify_all()

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        with self._changed:
            while not self._stopped and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
        if self._stopped:
            raise _Stopped


class _Piece:
    """The sink of one range: writes at its place."""

    def __init__(self, parent: Parallel, part: Slice) -> None:
        assert part.length is not None
        self._parent, self.at, self.end = parent, part.first, part.first + part.length

    def pin(self, representation: Representation) -> None:
        self._parent._told(representation)

    def write(self, data: memoryview) -> None:
        self._parent._wrote(self.at, data)
        self.at += len(data)

    def truncate(self) -> None:
        raise AssertionError("a bound range never begins anew")

    def pause(self) -> None:
        pass
