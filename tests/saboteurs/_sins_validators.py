"""Sins about which version the bytes are of."""

from __future__ import annotations

from _bases import caught_by, Saboteur, Split, Trusting
from _correct import Broken, Pin, Refused, Reply


@caught_by({"replaced-and-cut": "spliced"})
class ForgetsTheValidator(Trusting):
    """Resumes without If-Range or If-Match and compares nothing (GNU Wget: "garbled file")."""

    def continuable(self) -> bool:
        return self.pin is not None

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({})
class ComparesNoTagOfAPart(Trusting):
    """Sends If-Range, and believes that a 206 is then of the same version (boto/s3transfer#86)."""

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({})
class GoesOnWithTheNewVersion(Trusting):
    """Sees another ETag on a 206, notes it and goes on behind the old bytes (minio/minio-go#653)."""

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        self.pin.etag = self.strong(reply) or self.pin.etag
        self.pin.total = reply.span[2] if reply.span else self.pin.total


@caught_by({"weak-unproved-cut": "unsafe"})
class TrustsAWeakTag(Trusting):
    """Binds ranges by a weak ETag (RFC 9110 section 13.1.5)."""
    trips = ("weak-validator",)

    def strong(self, reply: Reply) -> str | None:
        return reply.get("etag")


@caught_by({})
class TrustsADate(Trusting):
    """Takes Last-Modified for a strong validator (aws-sdk-java-v2 PR 6042)."""

    def strong(self, reply: Reply) -> str | None:
        return super().strong(reply) or reply.get("last-modified")

    def check_version(self, reply: Reply) -> None:
        if self.strong(reply) != self.pin.etag:
            self.changed("another date")


@caught_by({})
class ResumesWithoutAnyValidator(Trusting):
    """Resumes by offset when the store shows no validator, and hopes (thin-edge/thin-edge.io PR 3941)."""

    def continuable(self) -> bool:
        return self.pin is not None

    def check_version(self, reply: Reply) -> None:
        if reply.get("etag") and self.pin.etag and reply.get("etag") != self.pin.etag:
            self.changed("another tag")


@caught_by({})
class FailsOverAChangedObject(Saboteur):
    """Takes a changed object for the end of the transfer, though it could begin anew."""

    def changed(self, why: str) -> None:
        raise Refused(why)

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        if self.held:
            raise Refused("changed")
        return super().fresh(reply)


@caught_by({})
class KeepsTheOldSize(Trusting):
    """Starts anew on the changed object and stops at the length the old one had."""

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        first = self.first_total = getattr(self, "first_total", None) or reply.length
        super().fresh(reply)
        self.pin.total = first
        return 0, first


@caught_by({})
class RestartsWithoutTruncating(Trusting):
    """Starts anew in the old file and leaves its longer tail (boto/s3transfer PR 345)."""

    def restart(self) -> None:
        size = self.file.seek(0, 2)
        truncate, self.file.truncate = self.file.truncate, lambda n: n
        super().restart()
        self.file.truncate = truncate
        self.tail = size

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"head-tells-too-little": "truncated"})
class TrustsHeadOverGet(Trusting):
    """Reads as many bytes as HEAD told and calls that the object (fsspec/filesystem_spec#1748)."""

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        super().fresh(reply)
        self.pin.total = self.told or self.pin.total
        return 0, self.pin.total

    def fetch(self) -> None:
        self.told = None
        try:
            self.told = self.ask("HEAD", {}).length
        except (Broken, OSError):
            self.close()
        super().fetch()


@caught_by({})
class SplitsWithoutPinning(Split):
    """Fetches parts of whatever version there is, one by one (boto/s3transfer#86)."""

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        pass

    def prove(self) -> None:
        pass


@caught_by({"cut-mid-body": "hole"})
class LeavesAHoleForALostPart(Split):
    """Logs a part that failed and joins the others (restic/restic PR 3449)."""

    def part_failed(self, failures: int, error: Exception) -> int:
        raise Lost

    def part(self, start: int, end: int) -> None:
        try:
            super().part(start, end)
        except Lost:
            pass

    def prove(self) -> None:
        pass


class Lost(Exception):
    """A part will not come."""


@caught_by({"without-faults": "corrupt"})
class AppendsPartsAsTheyCome(Split):
    """Appends parts in the order they arrive, and the last arrives first (ytdl-org fragments)."""

    def order(self, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        self.file.truncate(0)
        return parts[:-2] + parts[:-3:-1]

    def write_at(self, start: int, data: bytes) -> None:
        super().write_at(self.file.seek(0, 2), data)

    def prove(self) -> None:
        pass


@caught_by({"cut-mid-body": "duplicated"})
class RepeatsAPartFromItsStart(Split):
    """Asks for a broken part from its start and appends it behind the half it has (yt-dlp/yt-dlp#2001)."""

    def fetch_parts(self) -> None:
        self.written = 0
        super().fetch_parts()

    def part(self, start: int, end: int) -> None:
        for failures in range(self.attempts):
            try:
                for data in self.range(start, end):
                    self.write_at(self.written, data)
                    self.written += len(data)
                return
            except (Broken, OSError) as error:
                self.close()
                self.part_failed(failures, error)

    def prove(self) -> None:
        pass
