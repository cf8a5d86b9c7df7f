"""Sins about which version the bytes are of."""

from __future__ import annotations

from _bases import Trusting, TrustingSplit, caught_by
from _correct import Broken, Pin, Reply


@caught_by({"replaced-before-the-rest": "spliced", "killed-and-replaced": "spliced"})
class ForgetsTheValidator(Trusting):
    """Resumes without If-Range or If-Match and compares nothing (GNU Wget: "garbled file")."""

    def continuable(self) -> bool:
        return self.pin is not None

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({"wrong-byte-in-right-range": "corrupt"})
class ComparesNoTagOfAPart(Trusting):
    """Sends If-Range, and believes that a 206 is then of the same version (boto/s3transfer#86)."""

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({"replaced-before-the-rest": "spliced"})
class GoesOnWithTheNewVersion(Trusting):
    """Sees another ETag on a 206, notes it and goes on behind the old bytes (minio/minio-go#653)."""

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        self.pin.etag = self.strong(reply) or self.pin.etag
        self.pin.total = reply.span[2] if reply.span else self.pin.total


@caught_by({"weak-unproved-cut": "unsafe", "changed-under-one-weak-tag": "spliced"})
class TrustsAWeakTag(Trusting):
    """Binds ranges by a weak ETag (RFC 9110 section 13.1.5)."""

    trips = ("weak-validator",)

    def strong(self, reply: Reply) -> str | None:
        return reply.get("etag")


@caught_by({"replaced-within-the-second": "spliced"})
class TrustsADate(Trusting):
    """Takes Last-Modified for a strong validator (aws-sdk-java-v2 PR 6042)."""

    def strong(self, reply: Reply) -> str | None:
        return super().strong(reply) or reply.get("last-modified")

    def check_version(self, reply: Reply) -> None:
        if self.strong(reply) != self.pin.etag:
            self.changed("another date")


@caught_by({"replaced-behind-no-validator": "spliced"})
class ResumesWithoutAnyValidator(Trusting):
    """Resumes by offset when the store shows no validator, and hopes (thin-edge/thin-edge.io PR 3941)."""

    def continuable(self) -> bool:
        return self.pin is not None

    def check_version(self, reply: Reply) -> None:
        if reply.get("etag") and self.pin.etag and reply.get("etag") != self.pin.etag:
            self.changed("another tag")


@caught_by({"replaced-before-the-rest[at=50%;size=longer]": "truncated"})
class KeepsTheOldSize(Trusting):
    """Starts anew on the changed object and stops at the length the old one had."""

    first_total: int | None = None

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        self.first_total = self.first_total or reply.length
        super().fresh(reply)
        self.pin.total = self.first_total
        return 0, self.first_total


@caught_by({"replaced-before-the-rest[at=100%-1;size=shorter]": "spliced"})
class RestartsWithoutTruncating(Trusting):
    """Starts anew in the old file and leaves its longer tail (boto/s3transfer PR 345)."""

    def restart(self) -> None:
        self.file.seek(0)
        tail = self.file.read()
        super().restart()
        self.file.write(tail)

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"head-tells-too-little": "truncated"})
class TrustsHeadOverGet(Trusting):
    """Reads as many bytes as HEAD told and calls that the object (fsspec/filesystem_spec#1748)."""

    told: int | None = None

    def fetch(self) -> None:
        try:
            reply = self.ask("HEAD", {})
            self.told = reply.length if reply.status == 200 else None
        except (Broken, OSError):
            self.close()
        super().fetch()

    def fresh(self, reply: Reply) -> tuple[int, int | None]:
        super().fresh(reply)
        self.pin.total = self.told or self.pin.total
        return 0, self.pin.total


@caught_by({"changed-between-two-parts": "spliced"})
class SplitsWithoutPinning(TrustingSplit):
    """Fetches parts of whatever version there is, one by one (boto/s3transfer#86)."""

    slow = ("replaced-*",)

    def binding(self, pin: Pin) -> dict[str, str]:
        return {}

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({"cut-mid-body": "hole"})
class LeavesAHoleForALostPart(TrustingSplit):
    """Logs a part that failed and joins the others (restic/restic PR 3449)."""

    def part(self, start: int, end: int) -> None:
        try:
            super().part(start, end)
        except Lost:
            pass

    def part_failed(self, failures: int, error: Exception) -> int:
        raise Lost


class Lost(Exception):
    """A part will not come."""


@caught_by({"cut-mid-body": "corrupt"})
class AppendsPartsAsTheyCome(TrustingSplit):
    """Appends parts in the order in which they are done, a broken one behind the others."""

    def fetch_parts(self) -> None:
        self.late: list[bytes] = []
        super().fetch_parts()

    def order(self, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        self.file.truncate(0)
        return parts

    def part(self, start: int, end: int) -> None:
        try:
            data = b"".join(self.range(start, end))
        except (Broken, OSError):
            self.close()
            self.late.append(b"".join(self.range(start, end)))
            return
        self.write_at(self.file.seek(0, 2), data)

    def prove(self) -> None:
        self.write_at(self.file.seek(0, 2), b"".join(self.late))
        super().prove()


@caught_by({"cut-mid-body": "duplicated"})
class RepeatsAPartFromItsStart(TrustingSplit):
    """Asks for a broken part from its start and appends it behind the half it has (yt-dlp/yt-dlp#2001)."""

    parts = 3

    def order(self, parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
        self.file.truncate(0)
        return parts

    def part(self, start: int, end: int) -> None:
        failures = 0
        while True:
            try:
                for data in self.range(start, end):
                    self.write_at(self.file.seek(0, 2), data)
                return
            except (Broken, OSError) as error:
                self.close()
                failures = self.part_failed(failures, error)
