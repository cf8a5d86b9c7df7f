"""Resumable uploads as the origin keeps them: one state machine for both protocols, without any I/O.

An `Upload` takes bytes in order and becomes an object once, when it is complete. At most one request appends
to it: a later one takes the turn away (draft-ietf-httpbis-resumable-upload-12, Concurrency), so that the
offset somebody was told is the offset that is accepted next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from midstream._wire import Head
from midstream.stores._origin_answer import Answer, plain
from midstream.stores._origin_digests import Received
from midstream.stores._origin_intake import Later, mismatch

PREFIX = "/_uploads/"
MAX_SIZE = 1 << 40  # what Upload-Limit and Tus-Max-Size promise when nobody has set less

Commit = Callable[["Upload"], Answer]  # makes the object of a complete upload, or says why not


class State(StrEnum):
    OPEN = "open"
    COMPLETE = "complete"
    GONE = "gone"  # cancelled, or spoilt in a way no request can mend


@dataclass
class Upload:
    """One upload: `creation` is the head that began it, whose conditions count for the object too."""

    id: str
    key: str
    protocol: str
    creation: Head
    length: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)  # declared of the whole, by hashlib's names
    state: State = State.OPEN
    received: Received = field(default_factory=Received)
    turn: int = 0
    _abort: Callable[[], None] | None = None

    @property
    def path(self) -> str:
        return PREFIX + self.id

    @property
    def offset(self) -> int:
        return len(self.received.data)

    @property
    def max_size(self) -> int:
        return self.limits.get("max-size", MAX_SIZE)

    def take_over(self) -> int:
        """End whatever request appends now; the number of the turn that may append next."""
        self.turn += 1
        abort, self._abort = self._abort, None
        if abort:
            abort()
        return self.turn

    def held_by(self, turn: int, abort: Callable[[], None]) -> None:
        if turn == self.turn:
            self._abort = abort

    def release(self, turn: int) -> None:
        if turn == self.turn:
            self._abort = None

    def append(self, turn: int, data: bytes) -> bool:
        """Take bytes of the request that has the turn; False when they go past the end, which spoils all."""
        if turn != self.turn or self.state is not State.OPEN:
            return True
        end = self.max_size if self.length is None else self.length
        if self.offset + len(data) > end:
            self.release(turn)  # this request is answered, not ended
            self.drop()
            return False
        self.received.add(data)
        return True

    def drop(self) -> None:
        """Cancel it; its bytes are forgotten."""
        self.take_over()
        self.state = State.GONE
        self.received = Received()

    def shorten(self, offset: int) -> None:
        """Forget the bytes from `offset` on, as a server does that had not stored all it had read."""
        self.take_over()
        self.received = Received(bytes(self.received.data[:offset]))

    def complete(self, commit: Commit) -> Answer:
        """The last byte is here: verify the whole and make the object."""
        if algorithm := self.received.differs(self.digests):
            self.drop()
            return mismatch(algorithm)
        answer = commit(self)
        self.state = State.COMPLETE if answer.status < 300 else State.GONE
        return answer


class Uploads:
    """All uploads, the finished ones included: a client may ask for its offset after the last response."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._uploads: dict[str, Upload] = {}
        self._limits: dict[str, dict[str, int]] = {}

    def limit(self, key: str, limits: Mapping[str, int]) -> None:
        """Set the limits of uploads for one key, by the names of Upload-Limit."""
        self._limits[key] = dict(limits)

    def limits(self, key: str) -> Mapping[str, int]:
        return {"max-size": MAX_SIZE, **self._limits.get(key, {})}

    def create(self, key: str, protocol: str, creation: Head, length: int | None) -> Upload:
        upload = Upload(self._new_id(), key, protocol, creation, length, self.limits(key))
        self._uploads[upload.id] = upload
        return upload

    def get(self, upload_id: str) -> Upload | None:
        return self._uploads.get(upload_id)

    def all(self) -> list[Upload]:
        """In the order of creation."""
        return list(self._uploads.values())


class Append:
    """The content of a request on its way into an upload.

    With digests of the content declared, nothing is appended before they have been verified.
    """

    def __init__(
        self,
        upload: Upload,
        turn: int,
        finished: Callable[[], Answer],
        wanted: Mapping[str, str],
        *,
        interim: Answer | None = None,
        dress: Callable[[Answer], Answer] = lambda answer: answer,
        mismatch_status: int = 400,
    ) -> None:
        self.interim = interim
        self._upload, self._turn, self._finished = upload, turn, finished
        self._wanted, self._dress, self._status = wanted, dress, mismatch_status
        self._held = Received() if wanted else None
        self._fits = True

    def abort_by(self, abort: Callable[[], None]) -> None:
        self._upload.held_by(self._turn, abort)

    def take(self, data: bytes) -> None:
        if self._held is not None:
            self._held.add(data)
        elif self._fits:
            self._fits = self._upload.append(self._turn, data)

    def finish(self) -> Answer | Later:
        self._upload.release(self._turn)
        if self._held is not None:
            if algorithm := self._held.differs(self._wanted):
                return self._dress(mismatch(algorithm, self._status))
            self._fits = self._upload.append(self._turn, bytes(self._held.data))
        if not self._fits:
            return self._dress(plain(413, detail="more than the upload's length"))
        return self._dress(self._finished())
