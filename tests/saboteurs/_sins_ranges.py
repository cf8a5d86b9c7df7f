"""Sins about what a range request is answered with."""

from __future__ import annotations

from typing import Any

from _bases import ReadsOn, Saboteur, Trusting, caught_by
from _correct import Broken, Refused, Reply, Wire


@caught_by({"range-ignored": "duplicated", "range-stripped-once": "duplicated"})
class AppendsAWholeBody(Trusting):
    """Appends the 200 that answers a ranged request (rust-lang/rustup#4710, huggingface_hub PR 3778)."""

    def on_200(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        return super().on_200(reply, asked) if asked is None else (0, self.held + (reply.length or 0))

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or self.held >= (self.pin.total or 0)


@caught_by({"part-from-another-byte": "foreign", "part-shifted-once": "duplicated"})
class TrustsAnyPart(Trusting):
    """Joins whatever a 206 brings without a look at its fields (pypa/pip PR 14131)."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        return None

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) if end is not None else True


@caught_by({"part-shifted-once": "duplicated"})
class IgnoresWhereAPartBegins(Trusting):
    """Looks at end and total of Content-Range and not at its start (xroche/httrack#198)."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        if reply.span is None or self.pin is None:
            self.unusable("206 without a range")
        return self.held + (reply.span[1] + 1 - reply.span[0])

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or self.held >= self.pin.total


@caught_by({"part-shorter-once": "truncated"})
class IgnoresWhereAPartEnds(Trusting):
    """Takes an honest shorter 206 for all of the rest (jizhi0v0/duo-updater#225)."""

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or reply.status == 206


@caught_by({"part-of-another-total": "corrupt"})
class IgnoresTheTotalOfAPart(Trusting):
    """Joins the part of an object of another length (xrootd/xrootd#875)."""

    def check_span(self, reply: Reply, first: int, last: int, total: int | None) -> None:
        self.pin.total = last + 1

    def check_version(self, reply: Reply) -> None:
        pass


@caught_by({"part-shorter-than-its-range": "truncated"})
class IgnoresTheLengthOfAPart(Trusting):
    """Believes Content-Range where Content-Length tells of fewer bytes (lancachenet/monolithic#163)."""

    def check_span(self, reply: Reply, first: int, last: int, total: int | None) -> None:
        pass

    def check_version(self, reply: Reply) -> None:
        pass

    def ended(self, reply: Reply, end: int | None) -> bool:
        return True


@caught_by({"part-without-content-range": "foreign"})
class AcceptsAPartWithoutContentRange(Trusting):
    """Checks Content-Range if there is one, and joins the body if there is none (boto/s3transfer PR 358)."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        if reply.get("content-range") is None and reply.media != "multipart/byteranges":
            return self.held + (reply.length or 0)
        return super().on_206(reply, asked)

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or reply.status == 206


@caught_by({"part-in-several-parts": "foreign", "wrapped-in-multipart-once": "foreign"})
class TakesMultipartForData(Trusting):
    """Writes the boundaries of multipart/byteranges into the file (openstack/swift change 4f2ed8b)."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        if reply.media == "multipart/byteranges":
            return None
        return super().on_206(reply, asked)

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or reply.media == "multipart/byteranges"


@caught_by({"part-shifted-once": "hole"})
class PlacesAPartWithAGap(Trusting):
    """Puts a part where its Content-Range says, and never asks for what lies between."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        if self.pin is None or reply.span is None:
            self.unusable("no range")
        self.held = reply.span[0]
        return reply.span[1] + 1


@caught_by({"cut-mid-body[at=75%+1;end=fin]": "shifted"})
class TakesTheLengthOfAPartForTheTotal(Trusting):
    """Takes the Content-Length of a 206 for the total, and the rest for the whole (cyberdrop-dl PR 2139)."""

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        end = super().on_206(reply, asked)
        if reply.length is not None and self.held > reply.length:
            self.restart()
            self.pin = self.earlier
            end = self.pin.total = reply.length
        return end


@caught_by({"rest-as-200": "shifted", "slice-with-200": "foreign"})
class TakesASliceForTheWhole(Trusting):
    """Takes a 200 with a Content-Range for a whole body (kubernetes/registry.k8s.io#333)."""

    def on_200(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        return self.fresh(reply)


@caught_by({"cut-mid-body": "hole"})
class AsksOneByteTooFar(Trusting):
    """Counts a byte it did not write when a body breaks, and leaves a zero (FileDownloader#929)."""

    def failed(self, error: Exception) -> None:
        if self.held > self.best and self.held + 1 < (self.pin.total or 0):
            self.held += 1
        super().failed(error)


@caught_by({"cut-mid-body": "shifted"})
class AppendsOneByteTooFar(AsksOneByteTooFar):
    """Counts one byte more than it wrote when a body breaks, and appends what comes."""

    def place(self, data: bytes) -> None:
        self.file.seek(0, 2)
        self.file.write(data)
        self.held += len(data)

    def publish(self) -> None:
        self.held = self.file.seek(0, 2)
        super().publish()


@caught_by({"cut-mid-body": "duplicated"})
class AppendsTheLastByteAgain(Trusting):
    """Asks for the last byte it has once more, and appends what comes (an end taken for a length)."""

    shift = 1

    def offset(self) -> int | None:
        asked = super().offset()
        return asked and max(0, asked - self.shift)

    def on_206(self, reply: Reply, asked: int | None) -> int | None:
        end = super().on_206(reply, asked)
        self.pin.total = None
        return end and end + (self.held - asked)

    def is_whole(self) -> bool:
        return False

    def ended(self, reply: Reply, end: int | None) -> bool:
        return super().ended(reply, end) or True


@caught_by({"cut-three-times": "duplicated"})
class AsksForTheWholeRequestAgain(AppendsTheLastByteAgain):
    """Resumes where its last request began, not where delivery ended, and appends (curl/curl#18035)."""

    def offset(self) -> int | None:
        began, self.began = getattr(self, "began", 0), self.held
        self.shift = self.held - began if began else 0
        return super().offset()


@caught_by({"range-refused-without-length": "truncated", "range-refused-with-length": "truncated"})
class TakesARefusedRangeForDone(Trusting):
    """Takes every 416 for the news that all is there (GNU Wget 1.21.3)."""

    def on_416(self, reply: Reply) -> tuple[int | None, int | None]:
        self.pin.total = self.held
        return None, None


@caught_by({"range-refused-without-length": "foreign"})
class AppendsTheRefusal(Trusting):
    """Appends the page that comes with a 416 (curl/curl#1163)."""

    def judge(self, reply: Reply, asked: int | None) -> tuple[int | None, int | None]:
        return (0, None) if reply.status == 416 else super().judge(reply, asked)

    def ended(self, reply: Reply, end: int | None) -> bool:
        return reply.status == 416 or super().ended(reply, end)


@caught_by({"range-refused-for-ever": "retry_storm"})
class LoopsOnARefusedRange(Saboteur):
    """Asks again for the range that was refused, without counting (lingochamp/FileDownloader#929)."""

    trips = ("requests", "final-answers")
    tries = 0

    def on_416(self, reply: Reply) -> tuple[int | None, int | None]:
        self.tries += 1
        self.failures = 0 if self.tries < 50 else self.attempts
        raise Broken("416")


@caught_by({"range-refused-with-length": "needless_failure"})
class GivesUpOnARefusedRange(Saboteur):
    """Fails for good on a 416 and never tries without Range (nextcloud/updater#671)."""

    def on_416(self, reply: Reply) -> Any:
        raise Refused("416")


@caught_by({"end-after-the-last-byte[end=rst]": "unsafe"})
class AsksBehindTheEnd(ReadsOn):
    """Has every byte, and after a reset asks for those behind the last (git-lfs/git-lfs#3172)."""

    trips = ("ranges",)

    def behind(self, wire: Wire) -> None:
        wire.read(1)

    def is_whole(self) -> bool:
        return False

    def ended(self, reply: Reply, end: int | None) -> bool:
        super().ended(reply, end)
        return self.held == self.pin.total

    def on_416(self, reply: Reply) -> Any:
        self.pin.total = self.held
        return None, None


@caught_by({"cut-mid-body": "unsafe"})
class AsksForAnInvertedRange(Saboteur):
    """Writes the last byte it has as the end of what it wants (git-lfs PR 3518)."""

    trips = ("ranges",)

    def conditions(self, asked: int | None) -> dict[str, str]:
        fields = super().conditions(asked)
        return {**fields, "Range": f"bytes={asked}-{(asked or 0) - 1}"} if fields else fields
