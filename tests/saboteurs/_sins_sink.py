"""Sins about the file: placing, proving, publishing, and what an earlier process left."""

from __future__ import annotations

import json
import os
import shutil

from _bases import Saboteur, Trusting, caught_by
from _correct import Pin, Reply


@caught_by({"cut-mid-body": "hole"})
class CountsWhatItReceived(Trusting):
    """Resumes behind the bytes it received, not those it wrote: a buffer is lost with the connection (P9)."""

    slow = ("cut-near-*", "five-*", "large-*")

    buffer = b""

    def place(self, data: bytes) -> None:
        self.buffer += data
        self.held += len(data)
        if len(self.buffer) >= 100_000 or self.held == self.pin.total:
            self.file.seek(self.held - len(self.buffer))
            self.file.write(self.buffer)
            self.buffer = b""

    def failed(self, error: Exception) -> None:
        self.buffer = b""
        super().failed(error)


@caught_by({"range-ignored": "needless_failure"})
class HashesWhatItSkips(Saboteur):
    """Hashes the prefix of a whole body that it skips a second time, and fails over the sum (P34)."""

    fresh_starts = 0

    def on_200(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        skip, end = super().on_200(reply, asked)
        self.file.seek(0)
        self.hash(self.file.read())
        return skip, end


@caught_by({"cut-mid-body": "needless_failure"})
class HashesOnlyTheRest(Saboteur):
    """Starts its digest anew when it resumes (khm39/qftp#116)."""

    fresh_starts = 0

    def failed(self, error: Exception) -> None:
        super().failed(error)
        self.hashes = self.new_hashes()


@caught_by({"weak-cut": "needless_failure"})
class KeepsTheHashOverARestart(Saboteur):
    """Starts anew and lets the digest of the dropped bytes run on (P34)."""

    def restart(self) -> None:
        kept = self.hashes
        super().restart()
        self.hashes = kept


@caught_by({"damaged-body": "corrupt", "damaged-continuation": "corrupt"})
class SkipsTheDigest(Trusting):
    """Looks at no digest the store offers (canonical/snapd PR 3159)."""


@caught_by({"continuation-truncated-behind-a-gateway": "truncated"})
class SkipsTheSizeCheck(Trusting):
    """Believes that a body which ended cleanly was the rest, and counts nothing (treeverse/dvc#10767)."""

    def ended(self, reply: Reply, end: int | None) -> bool:
        return True if reply.framed else super().ended(reply, end)


@caught_by({"always-cut-at-the-same-byte": "leak", "final-at-first": "leak"})
class WritesStraightToTheFinalName(Saboteur):
    """Writes to the final name from the first byte on (spack/spack#287)."""

    slow = ("refused-*",)

    def adopt(self) -> None:
        self.dest.unlink(missing_ok=True)
        self.partial = self.dest

    def keep_or_discard(self) -> None:
        pass


@caught_by({"always-cut-at-the-same-byte": "leak"})
class PublishesTheRestItHas(Saboteur):
    """Gives a partial the final name when it fails: some bytes are better than none (kornia/kornia#4309)."""

    def keep_or_discard(self) -> None:
        if self.held:
            self.partial.replace(self.dest)
        super().keep_or_discard()


@caught_by({"damaged-for-ever": "leak"})
class VerifiesAfterPublishing(Saboteur):
    """Renames first and compares the digest then (yarnpkg/yarn#7521)."""

    def verify(self) -> bool:
        shutil.copy(self.partial, self.dest)
        return super().verify()


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
    ranged_once = False

    def publish(self) -> None:
        text = self.log.read_text() if self.log.exists() else ""
        super().publish()
        if text and self.ranged_once:
            self.log.write_text(text)

    def conditions(self, asked: int | None) -> dict[str, str]:
        self.ranged_once = self.ranged_once or asked is not None
        return super().conditions(asked)


@caught_by(
    {
        "partial-zeroed": "hole",
        "partial-of-another-object": "foreign",
        "partial-grown": "spliced",
        "partial-flipped": "corrupt",
    }
)
class BelievesAnyPartial(Trusting):
    """Goes on behind whatever partial lies there, zeros and strangers included (P37, P39)."""

    slow = ("killed-*", "partial-*", "stopped-*")

    def load(self) -> bool:
        if not self.log.exists() or not self.partial.exists():
            return False
        known = json.loads(self.log.read_text().splitlines()[0])
        self.pin = Pin(**{name: value for name, value in known.items() if name != "url"})
        self.held = self.partial.stat().st_size
        return True

    def is_whole(self) -> bool:
        return self.pin is not None and self.pin.total is not None and self.held >= self.pin.total

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"killed-early-or-late": "restarted"})
class IgnoresItsJournal(Saboteur):
    """Starts from zero in every process (moby/moby#52965)."""

    slow = ("killed-*", "partial-*", "stopped-*")

    def load(self) -> bool:
        return False


@caught_by({"two-at-once": "corrupt|duplicated"})
class SharesOnePartial(Trusting):
    """Appends to one partial from all processes, under one name (P38)."""

    slow = ("two-at-once*",)

    def adopt(self) -> None:
        self.partial = self.dest.with_name(f".{self.dest.name}.part")
        self.log = self.partial.with_suffix(".log")

    def place(self, data: bytes) -> None:
        self.file.seek(0, 2)
        self.file.write(data)
        self.file.flush()
        self.held += len(data)

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"killed-early-or-late": "leak"})
class LeavesDeadPartials(Saboteur):
    """Never looks at what killed processes left, and leaves it there (P43)."""

    slow = ("killed-*", "partial-*", "stopped-*")

    def adopt(self) -> None:
        pass


@caught_by({"killed-early-or-late": "duplicated", "partial-grown": "spliced|foreign"})
class AppendsBehindTheMark(Trusting):
    """Asks from what its journal claims and appends behind all that is there (P37)."""

    slow = ("killed-*", "partial-*", "stopped-*")

    def load(self) -> bool:
        had = self.partial.read_bytes() if self.partial.exists() else b""
        if not super().load() or self.held < 8192:
            return False
        self.partial.write_bytes(had)
        self.held -= 4096
        return True

    def place(self, data: bytes) -> None:
        held, self.held = self.held, self.file.seek(0, 2)
        super().place(data)
        self.held = held + len(data)

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"disk-full-half-way": "truncated"})
class IgnoresAFullDisk(Trusting):
    """Does not look at how many bytes were written (P36)."""

    def place(self, data: bytes) -> None:
        try:
            os.pwrite(self.file.fileno(), data, self.held)
        except OSError:
            pass
        self.held += len(data)

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"pipe-cut": "duplicated"})
class BeginsAgainInAPipe(Trusting):
    """Begins at zero again, behind a cut, in the same pipe (google-resumable-media-python PR 241)."""

    slow = ("pipe*",)

    def continuable(self) -> bool:
        return False

    def place(self, data: bytes) -> None:
        super().place(data)
        if self.dest.is_fifo():
            with self.dest.open("wb") as pipe:
                pipe.write(data)

    def publish(self) -> None:
        if self.dest.is_fifo():
            self.partial.unlink()
        else:
            super().publish()
