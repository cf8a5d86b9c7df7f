"""The one place where an upload's decisions meet a store, a source and a clock."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from reknit import _upload_events as ev
from reknit import _upload_journal as journals
from reknit import stores
from reknit._errors import CallerError, ReknitError, SinkError, SourceError, StoreFault
from reknit._options import Options, Progress, UploadReport
from reknit._source import Flowing, Held, Source, open_source
from reknit._upload_journal import About, UploadJournal
from reknit._upload_offset import Offset
from reknit._upload_parts import Leftover, Parts
from reknit._upload_policy import Policy, Removal
from reknit._upload_whole import Whole
from reknit._url import shown

ProgressCallback = Callable[[Progress], None]


def upload(
    source: Any,
    url: str,
    *,
    size: int | None = None,
    options: Options | None = None,
    progress: ProgressCallback | None = None,
) -> UploadReport:
    """Store `source` at `url`: a path, a seekable binary file (from its position on; it is not closed), or a
    stream, which is spooled to a temporary file first. With `size`, it must have so many bytes: a stream that
    ends early looks like any other.

    The object appears whole or not at all, and is looked at once it is there. What an earlier call for the
    same left in the store is not sent again. Raises ReknitError: Exhausted when the store kept failing (call
    again to continue), Refused for a final answer, SourceError when the source cannot be read or changes
    meanwhile, Integrity when the store has something else than was sent, SinkError when the journal cannot be
    written, CallerError for the call.
    """
    options = options or Options()
    began = time.monotonic()
    with closing(stores.open_uploader(url, options)) as uploader, closing(open_source(source, size)) as read:
        if options.expected is not None and read.wrong((options.expected,)):
            raise SourceError(f"{read.name} does not have the {options.expected.algorithm} that is expected")
        run = Run(uploader, read, url, options, progress)
        verified = run.run()
        machine = run.machine
        reused = getattr(machine, "reused", 0)
        return UploadReport(
            bytes=read.size,
            requests=machine.requests,
            reused=reused,
            resent=max(0, run.sent - (read.size - reused)),
            restarts=machine.restarts,
            verified=verified,
            seconds=time.monotonic() - began,
        )


class Run:
    """Carries out what the machine asks for: one request at a time here, or several in threads."""

    def __init__(
        self,
        uploader: stores.Uploader,
        source: Source,
        url: str,
        options: Options,
        progress: ProgressCallback | None = None,
    ) -> None:
        self._uploader, self._source, self._options, self._progress = uploader, source, options, progress
        self._url = url
        self._journal: UploadJournal | None = None
        self._held: dict[int, Held] = {}
        self.sent = 0
        """Bytes given to the network."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._here: deque[ev.Do] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._done: SimpleQueue[tuple[ev.Request, ev.Event | BaseException]] = SimpleQueue()
        self.machine = self._choose()

    def run(self) -> str | None:
        """Until it is stored; by what that is proved. Raises what ends it."""
        keep = True
        try:
            if self._journal is not None:
                self._remove_superseded(self._journal)
            verified = self._carry_on()
            keep = False
            return verified
        except ReknitError as error:
            keep = self.machine.leaves(error)
            raise
        finally:
            # After anything else, a kill or Ctrl-C for one, the record is what a later call goes on with.
            self._over.set()
            self._uploader.close()
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            if self._journal is not None:
                self._journal.close(keep=keep)

    def _choose(self) -> Policy:
        options, shape, size = self._options, self._uploader.shape, self._source.size
        common = (shape, size, options.limits, options.roll)
        if shape.kind == "offset":
            # Only a source that can be known again may be gone on with: there are no parts to compare. What a
            # killed process left of another is found by the next upload to the same place, and removed.
            known = self._source.identity
            record = self._record(0, known or f"unknown-{secrets.token_hex(8)}")
            session = record.session if record else ""
            keep = options.keep and bool(known)
            return Offset(*common, verify=options.verify, earlier=session, keep=keep)
        part_size = _part_size(shape, size, options.part_size)
        if shape.kind == "whole" or size <= part_size:
            return Whole(*common, verify=options.verify)
        record = self._record(part_size, "")
        earlier = Leftover(record.session, part_size, record.parts) if record else None
        return Parts(
            *common[:2], part_size, *common[2:], at_once=options.parallel, earlier=earlier, keep=options.keep
        )

    def _record(self, part_size: int, source: str) -> journals.Record | None:
        folder = Path(self._options.journal) if self._options.journal else journals.default_folder()
        url = shown(self._url)
        about = About(self._uploader.identity, url, self._source.size, part_size, source)
        self._journal = UploadJournal(folder, about)
        return self._journal.earlier

    def _remove_superseded(self, journal: UploadJournal) -> None:
        """P43: what earlier calls could not remove, or left for an upload that is not wanted any more."""
        wanted = self.machine
        for path, record in journal.superseded:
            shape, options = self._uploader.shape, self._options
            last = max((part.number for part in record.parts), default=0) + options.parallel
            self.machine = Removal(shape, options.limits, options.roll, record.session, last)
            journal.resolve(path, gone=self._carry_on() is not None)
        self.machine = wanted

    def _carry_on(self) -> str | None:
        actions = deque(self.machine.start())
        while True:
            broken: SinkError | None = None
            while actions:
                match actions.popleft():
                    case ev.Do() as do:
                        self._begin(do)
                    case ev.Finish(verified):
                        return verified
                    case ev.Fail(error):
                        raise error
                    case other:
                        try:
                            self._note(other)
                        except SinkError as error:
                            self._journal, broken = None, error
            if broken is not None:
                actions.extend(self.machine.give_up(broken))
                continue
            request, event = self._next()
            actions.extend(self.machine.receive(request, event))
            self._tell()

    def _note(self, action: ev.Note | ev.Forget | ev.Orphan) -> None:
        if isinstance(action, ev.Note) and isinstance(action.entry, ev.Stored):
            self._held.pop(action.entry.number, None)
        if isinstance(action, ev.Forget):
            self._held.clear()
        if self._journal is None or isinstance(self.machine, Removal):
            return
        match action:
            case ev.Note(ev.Stored() as part):
                self._journal.part(part)
            case ev.Note(str(session)):
                self._journal.session(session)
            case ev.Forget():
                self._journal.forget()
            case ev.Orphan(why):
                self._journal.orphan(why)

    # -- carrying out --------------------------------------------------------------------------------------

    def _begin(self, do: ev.Do) -> None:
        """In this thread, one after the other, or in one of the pool."""
        apart = isinstance(self.machine, Parts) and (
            isinstance(do.request, ev.Load) or self._options.parallel > 1
        )
        if not apart:
            self._here.append(do)
            return
        if self._pool is None:
            at_once = self._options.parallel
            self._pool = ThreadPoolExecutor(1 + (at_once if at_once > 1 else 0), "reknit")
        self._pool.submit(self._apart, do)

    def _next(self) -> tuple[ev.Request, ev.Event]:
        if self._here:
            do = self._here.popleft()
            return do.request, self._perform(do)
        request, event = self._done.get()
        if isinstance(event, BaseException):
            raise event
        return request, event

    def _apart(self, do: ev.Do) -> None:
        try:
            self._done.put((do.request, self._perform(do)))
        except BaseException as error:  # for the thread that can tell it
            self._done.put((do.request, error))

    def _perform(self, do: ev.Do) -> ev.Event:
        if do.delay:
            # Waits of our own end when it is over.
            sleep = self._options.sleep
            self._over.wait(do.delay) if sleep is time.sleep else sleep(do.delay)
        if self._over.is_set() or (self.machine.error and not isinstance(do.request, ev.Abort)):
            return ev.Dropped(StoreFault("reset", "reset: the upload was given up"))
        try:
            return self._carry_out(do.request)
        except StoreFault as fault:
            return ev.Dropped(fault)
        except ReknitError as error:
            return ev.Broken(error)

    def _carry_out(self, request: ev.Request) -> ev.Event:
        store = self._uploader
        match request:
            case ev.Load(_, piece):
                held = self._held[piece.number] = self._hold(piece)
                return ev.Loaded(held.md5, held.crc32)
            case ev.Put(piece):
                return store.put(self._body(piece))
            case ev.Begin(size):
                return store.begin(size)
            case ev.Send(session, piece):
                body = self._body(piece)
                try:
                    return store.send(session, piece, body)
                except StoreFault as fault:
                    return ev.Dropped(fault, body.given)
            case ev.Look(session, after, last):
                return store.look(session, after, last)
            case ev.Commit(session, parts):
                self._source.check()
                return store.commit(session, parts)
            case ev.Abort(session, after, last):
                return store.abort(session, after, last)
            case ev.Head():
                return store.stat()
            case ev.Hash(digests):
                return ev.Hashed(self._source.wrong(digests))
            case ev.Renew():
                return ev.Renewed(store.renew())

    def _body(self, piece: ev.Piece) -> _Counted:
        body: stores.Body | None = self._held.get(piece.number)
        if body is None:
            body = self._hold(piece) if self._uploader.shape.hashed else Flowing(self._source, piece)
        return _Counted(body, self._count)

    def _hold(self, piece: ev.Piece) -> Held:
        return Held(self._source, piece, summed=self._uploader.shape.summed)

    def _count(self, size: int, so_far: int) -> None:
        with self._lock:
            self.sent += size
        if threading.current_thread() is threading.main_thread() and not self._pool:
            self._tell(so_far)

    def _tell(self, under_way: int = 0) -> None:
        if self._progress is not None and not isinstance(self.machine, Removal):
            machine, size = self.machine, self._source.size
            done = min(machine.stored + under_way, size)
            self._progress(Progress(done, size, machine.retries, machine.restarts))


class _Counted:
    """A body, and word of how much of it has gone."""

    def __init__(self, body: stores.Body, count: Callable[[int, int], None]) -> None:
        self.size, self.md5, self.crc32 = body.size, body.md5, body.crc32
        self._body, self._count = body, count
        self.given = 0
        """Bytes that may be on their way."""

    def blocks(self) -> Iterator[memoryview]:
        so_far = 0
        for block in self._body.blocks():
            self.given = max(self.given, so_far + len(block))
            yield block
            so_far += len(block)
            self._count(len(block), so_far)


def _part_size(shape: ev.Shape, size: int, wished: int) -> int:
    """Of parts that are many enough and not too many; whole megabytes once it has to grow."""
    needed = -(-size // shape.count)
    part_size = max(wished, shape.least, needed if needed <= wished else -(-needed >> 20) << 20)
    if shape.most is not None and shape.kind == "parts" and part_size > shape.most:
        raise CallerError(f"{size} bytes are more than this store takes")
    return part_size
