"""Sins about the file: placing, proving, publishing, and what an earlier process left."""

from __future__ import annotations

import shutil

from _bases import caught_by, Saboteur, Trusting
from _correct import Pin, Reply


@caught_by({"cut-mid-body": "hole"})
class CountsWhatItReceived(Trusting):
    """Resumes behind the bytes it received, not those it wrote: a buffer is lost with the connection (P9)."""
    buffer = b""

    def place(self, data: bytes) -> None:
        self.buffer += data
        self.held += len(data)
        if len(self.buffer) >= 100_000 or self.held == self.pin.total:
            self.file.seek(self.held - len(self.buffer))
            self.file.write(self.buffer)
            self.buffer = b""

    def failed(self, error: Exception, before: int) -> None:
        self.buffer = b""
        super().failed(error, before)


@caught_by({})
class HashesWhatItSkips(Saboteur):
    """Hashes the prefix of a whole body that it skips a second time, and fails over the sum (P34)."""

    def on_200(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        skip, end = super().on_200(reply, asked)
        if skip:
            self.file.seek(0)
            self.hash(self.file.read())
        return skip, end


@caught_by({"cut-mid-body": "needless_failure"})
class HashesOnlyTheRest(Saboteur):
    """Starts its digest anew when it resumes (khm39/qftp#116)."""

    def failed(self, error: Exception, before: int) -> None:
        super().failed(error, before)
        self.hashes = self.new_hashes()


@caught_by({"weak-cut": "needless_failure"})
class KeepsTheHashOverARestart(Saboteur):
    """Starts anew and lets the digest of the dropped bytes run on (P34)."""

    def restart(self) -> None:
        kept = self.hashes
        super().restart()
        self.hashes = kept


@caught_by({"damaged-body": "corrupt", "wrong-byte-in-right-range": "corrupt"})
class SkipsTheDigest(Trusting):
    """Looks at no digest the store offers (canonical/snapd PR 3159)."""


@caught_by({})
class SkipsTheSizeCheck(Saboteur):
    """Has no second opinion on the size where there is no digest (treeverse/dvc#10767)."""

    def size(self) -> int | None:
        return None


@caught_by({"always-cut-at-the-same-byte": "leak", "final-at-first": "leak"})
class WritesStraightToTheFinalName(Saboteur):
    """Writes to the final name from the first byte on (spack/spack#287)."""

    def adopt(self) -> None:
        self.dest.unlink(missing_ok=True)
        self.partial = self.dest

    def keep_or_discard(self) -> None:
        pass


@caught_by({"always-cut-at-the-same-byte": "leak"})
class PublishesTheRestItHas(Saboteur):
    """Gives a partial the final name when it fails, since some bytes are better than none (kornia/kornia#4309)."""

    def keep_or_discard(self) -> None:
        if self.held:
            self.partial.replace(self.dest)
        super().keep_or_discard()


@caught_by({"damaged-for-ever": "leak"})
class VerifiesAfterPublishing(Saboteur):
    """Renames first and compares the digest then (yarnpkg/yarn#7521)."""

    def verify(self) -> bool:
        if not super().verify():
            return False
        return True

    def keep_or_discard(self) -> None:
        if self.is_whole():
            self.partial.replace(self.dest)


@caught_by({"without-faults": "leak"})
class LeavesItsPartial(Saboteur):
    """Copies the object to the final name and forgets the partial."""
    trips = ("leftovers",)

    def publish(self) -> None:
        shutil.copy(self.partial, self.dest)


@caught_by({"cut-mid-body": "leak"})
class LeavesItsJournal(Saboteur):
    """Forgets the journal when there has been trouble."""
    trips = ("leftovers",)

    def publish(self) -> None:
        text = self.log.read_text() if self.log.exists() else ""
        super().publish()
        if text and self.ranged_once:
            self.log.write_text(text)

    ranged_once = False

    def conditions(self, asked: int | None) -> dict[str, str]:
        self.ranged_once = self.ranged_once or asked is not None
        return super().conditions(asked)


@caught_by({})
class BelievesAnyPartial(Trusting):
    """Goes on behind whatever partial lies there, zeros and strangers included (P37, P39)."""

    def load(self) -> bool:
        if not super().load() and not self.partial.exists():
            return False
        self.held = self.partial.stat().st_size
        self.pin = self.pin or Pin(etag=None)
        return True


@caught_by({})
class IgnoresItsJournal(Saboteur):
    """Starts from zero in every process (moby/moby#52965)."""

    def load(self) -> bool:
        return False


@caught_by({})
class SharesOnePartial(Trusting):
    """Writes to one partial from all processes, under one name (P38)."""

    def adopt(self) -> None:
        self.partial = self.dest.with_name(f".{self.dest.name}.part")
        self.log = self.partial.with_suffix(".log")
        if self.partial.exists():
            self.held = self.partial.stat().st_size
            self.pin = Pin()


@caught_by({})
class LeavesDeadPartials(Saboteur):
    """Never looks at what killed processes left, and leaves it there (P43)."""

    def adopt(self) -> None:
        pass


@caught_by({})
class AppendsBehindTheMark(Trusting):
    """Believes its journal, and appends behind bytes that the journal does not know of (P37)."""

    def place(self, data: bytes) -> None:
        self.file.seek(0, 2)
        self.file.write(data)
        self.file.flush()
        self.held += len(data)
        self.mark()


