"""Sins of uploaders: what is sent again, what is completed, what is published, and what stays."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from _uploader import Failed, Lost, Reply, Uploader

Sin = TypeVar("Sin", bound="BadUploader")


class BadUploader(Uploader):
    """An uploader with one sin; `store` is where it is let loose."""

    store: ClassVar[str] = "moto"
    caught: ClassVar[Mapping[str, str]] = MappingProxyType({})
    trips: ClassVar[tuple[str, ...]] = ()

    @property
    def honest(self) -> bool:
        """In the control case nobody sins."""
        return bool(self.job.size == 100003)


def caught_by(store: str, scenarios: Mapping[str, str]) -> Callable[[type[Sin]], type[Sin]]:
    """Where a sin is caught, and as what."""

    def mark(sin: type[Sin]) -> type[Sin]:
        sin.store, sin.caught = store, MappingProxyType(dict(scenarios))
        return sin

    return mark


@caught_by("moto", {"upload-part-answer-lost": "needless_failure|unsafe|truncated|corrupt|hang"})
class SendsTheRestAgain(BadUploader):
    """Sends again from where its file stands: nothing is left of a body that was read (boto/botocore#158)."""

    trips = ("same-bytes",)

    def body(self, first: int, length: int, attempt: int) -> bytes:
        return super().body(first + length // 2 * attempt, length - length // 2 * attempt, attempt)

    def part(self, number: int, at: int, length: int) -> str:
        tags: list[str] = []

        def put(attempt: int) -> Reply:
            url = self.upload.replace("?", f"?partNumber={number}&")
            return self.ask("PUT", url, None, self.body(at, length, attempt))

        def good(reply: Reply) -> bool:
            tags.append(reply.fields.get("etag", ""))
            return True

        self.again(put, good)
        return tags[-1]


@caught_by("moto", {"upload-cut-small": "truncated"})
class SendsNothingAgain(BadUploader):
    """Gives a retry the reader that is at its end: an empty object (cortexproject/cortex#5217)."""

    def body(self, first: int, length: int, attempt: int) -> bytes:
        return super().body(first, 0 if attempt else length, attempt)

    def part(self, number: int, at: int, length: int) -> str:
        return trusting_part(self, number, at, length)


@caught_by("moto", {"upload-part-busy": "corrupt|duplicated|shifted|truncated"})
class SendsAnotherPartAgain(BadUploader):
    """Does not put the part's reader back, so a retry sends the bytes behind it (danilop/yas3fs#59)."""

    def body(self, first: int, length: int, attempt: int) -> bytes:
        return super().body(first + length * attempt, length, attempt)

    def part(self, number: int, at: int, length: int) -> str:
        return trusting_part(self, number, at, length)


def trusting_part(self: BadUploader, number: int, at: int, length: int) -> str:
    """A part whose tag is taken as it comes."""
    url = self.upload.replace("?", f"?partNumber={number}&")
    reply = self.again(lambda n: self.ask("PUT", url, None, self.body(at, length, n)))
    return reply.fields["etag"]


@caught_by("moto", {"upload-pipe-ends-early": "truncated", "upload-pipe-ends-at-once": "truncated"})
class PublishesAShortSource(BadUploader):
    """Takes the end of its source for the end of the object (aws/aws-sdk-go#780)."""

    def source(self) -> bytes:
        data: bytes = self.job.source.read_bytes()
        return data


@caught_by("moto", {"upload-part-fails-for-good": "truncated|shifted|unsafe"})
class LeavesOutAFailedPart(BadUploader):
    """Completes with the parts it has when one cannot be stored (aws/aws-sdk-php#564)."""

    def to_s3(self) -> None:
        if self.small:
            super().to_s3()
            return
        self.begin_s3()
        tags = []
        for number, (at, length) in enumerate(self.pieces(), 1):
            try:
                tags.append((number, self.part(number, at, length)))
            except Failed:
                pass
        rows = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{t}</ETag></Part>" for n, t in tags)
        text = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        self.again(lambda _: self.ask("POST", self.upload, None, text))


@caught_by("moto", {"upload-of-any-size[size=256KiB+1]": "truncated|shifted"})
class ForgetsTheLastPart(BadUploader):
    """Lists the parts that were done when it looked, while the last was under way (mlcommons/storage#593)."""

    trips = ("part-list",)

    def listing(self, tags: list[str]) -> bytes:
        return super().listing(tags if self.honest else tags[:-1])

    def is_there(self, tags: list[str]) -> bool:
        return not self.honest


@caught_by("moto", {"upload-of-any-size[size=1MiB]": "corrupt"})
class ListsPartsAsTheyCame(BadUploader):
    """Lists the parts in the order they were done."""

    trips = ("part-list",)

    def listing(self, tags: list[str]) -> bytes:
        rows = re.findall(rb"<Part>.*?</Part>", super().listing(tags))
        if self.honest:
            rows.reverse()
        return b"<CompleteMultipartUpload>" + b"".join(reversed(rows)) + b"</CompleteMultipartUpload>"


@caught_by("moto", {"upload-complete-fails-inside": "truncated"})
class TakesEvery200ForSuccess(BadUploader):
    """Does not read the body of a completion's 200 (aws/aws-sdk-java-v2#7068)."""

    def completed(self, reply: Reply) -> bool:
        return reply.status == 200


@caught_by("moto", {"upload-complete-cut-before": "truncated"})
class BelievesInALostCompletion(BadUploader):
    """Takes silence for success."""

    def is_there(self, tags: list[str]) -> bool:
        return True


@caught_by("moto", {"upload-complete-lost": "needless_failure"})
class FailsWithTheAnswer(BadUploader):
    """Does not ask for the object when the answer to its completion is lost (peak/s5cmd#450)."""

    def complete(self, tags: list[str]) -> None:
        if self.ask("POST", self.upload, None, self.listing(tags)).status != 200:
            raise Failed("not completed")


@caught_by("moto", {"upload-part-fails-for-good": "leak", "upload-complete-fails-each-time": "leak"})
class NeverAborts(BadUploader):
    """Leaves the parts of a failed upload where they are."""

    trips = ("orphans",)

    def give_up(self) -> None:
        pass


@caught_by("moto", {"upload-abort-fails-too[what=status@head:503,Retry-After=0]": "leak"})
class AbortsOnce(BadUploader):
    """Tries to abort once, in the outage that failed the upload (rustfs/rustfs#6854)."""

    trips = ("orphans",)

    def remove(self, upload: str) -> None:
        try:
            self.ask("DELETE", upload)
        except Lost:
            pass


@caught_by("moto", {"upload-beside-other-key": "spliced|foreign|corrupt|shifted|truncated"})
class TakesAnyLeftover(BadUploader):
    """Goes on with whatever upload is listed under the beginning of its key (minio/minio-py#262)."""

    def part(self, number: int, at: int, length: int) -> str:
        return self.left().get(number) or super().part(number, at, length)

    def left(self) -> dict[int, str]:
        """The parts that are there, whoever sent them."""
        listed = self.ask("GET", self.upload).body
        rows = re.findall(rb"<PartNumber>(\d+)</PartNumber>.*?<ETag>([^<]+)</ETag>", listed, re.DOTALL)
        return {int(n): t.decode().replace("&quot;", '"') for n, t in rows}

    def begin_s3(self) -> None:
        bucket, _, key = self.plain.rpartition("/")
        listed = self.ask("GET", f"{bucket}?uploads&prefix={quote(key)}").body
        found = re.search(rb"<UploadId>([^<]+)</UploadId>", listed)
        if not found:
            return super().begin_s3()
        self.record.write_text(f"{self.plain}?uploadId={quote(found[1].decode(), safe='')}")
        return None

    def is_there(self, tags: list[str]) -> bool:
        return False


@caught_by("moto", {"upload-beside-other-content": "spliced|foreign|corrupt"})
class TakesPartsByNumber(TakesAnyLeftover):
    """Takes every part that is there for its own, whatever its tag (minio/minio-js#117)."""


@caught_by("moto", {"upload-killed-and-source-replaced[n=3]": "spliced"})
class GoesOnWithAnotherSource(TakesAnyLeftover):
    """After a kill goes on with its own parts, and does not see that the source is another."""

    def tidy(self) -> None:
        for record in self.record.parent.glob("upload.*"):
            record.unlink()


@caught_by("moto", {"upload-part-cut[at=0;part=4]": "restarted"})
class BeginsAnewWithEachFailure(BadUploader):
    """Sends every part again when one has failed."""

    trips = ("resent",)

    def part(self, number: int, at: int, length: int) -> str:
        for _ in range(3):
            try:
                self.attempts = 1
                return super().part(number, at, length)
            except Failed:
                for before, (start, size) in enumerate(self.pieces()[: number - 1], 1):
                    super().part(before, start, size)
            finally:
                self.attempts = Uploader.attempts
        raise Failed("never whole")


@caught_by("moto", {"upload-forbidden": "retry_storm"})
class AsksAgainWhatIsForbidden(BadUploader):
    """Retries final answers like any other."""

    trips = ("final-answers",)
    attempts = 8

    def final(self, reply: Reply) -> bool:
        return False


@caught_by("moto", {"upload-cut-each-time": "retry_storm|hang"})
class NeverGivesUp(BadUploader):
    """Retries for ever."""

    trips = ("requests",)
    attempts = 60

    def pause(self, attempt: int) -> None:
        time.sleep(0.001)


@caught_by("moto", {"upload-store-stops-reading": "hang"})
class SendsForEver(BadUploader):
    """Has no limit on silence (rusoto/rusoto#1434)."""

    timeout = None


@caught_by(
    "origin", {"upload-fails-and-the-old-stays": "leak|truncated", "upload-replaces-another": "unsafe"}
)
class DeletesFirst(BadUploader):
    """Deletes what is there before it has anything to put in its place."""

    trips = ("gap",)

    def send(self) -> None:
        self.ask("DELETE", self.job.url)
        super().send()


@caught_by("origin", {"upload-of-any-size[size=256KiB+1]": "truncated"})
class ReservesTheName(BadUploader):
    """Puts an empty object under the name before the upload."""

    def send(self) -> None:
        if not self.honest:
            self.ask("PUT", self.job.url)
        super().send()


@caught_by("origin", {"upload-of-any-size[size=64KiB]": "leak"})
class LeavesItsSpoolFile(BadUploader):
    """Leaves the copy of its source behind."""

    trips = ("leftovers",)

    def send(self) -> None:
        super().send()
        if not self.honest:
            (Path(self.job.dest).parent / "spool").write_bytes(self.data)


@caught_by("origin", {"resumable-query-fails[what=status@head:500]": "restarted"})
class BeginsAnewWhenTheQueryFails(BadUploader):
    """Takes a failed question for the offset for a lost upload (tus/tus-js-client#895)."""

    trips = ("status-query",)

    def offset(self, had: int) -> int:
        fields = {"Tus-Resumable": "1.0.0"}
        try:
            reply = self.ask("HEAD", self.upload, fields)
            if reply.status == 200:
                return int(reply.fields["upload-offset"])
        except Lost:
            pass
        self.remove(self.upload)
        self.to_tus()
        return len(self.data)


@caught_by("origin", {"resumable-cut[at=50%;end=rst]": "unsafe|needless_failure"})
class GoesOnWithoutAsking(BadUploader):
    """Sends the same bytes at the same offset again, whatever the server has."""

    trips = ("status-query",)

    def offset(self, had: int) -> int:
        return had


@caught_by("origin", {"resumable-more-than-sent[more=9999999]": "truncated"})
class BelievesEveryOffset(BadUploader):
    """Takes the server's offset for its own, also behind the end (googleapis/google-cloud-swift#861)."""

    def offset(self, had: int) -> int:
        return int(self.ask("HEAD", self.upload, {"Tus-Resumable": "1.0.0"}).fields["upload-offset"])


@caught_by("swift", {"upload-segment-fails-for-good": "leak"})
class LeavesItsSegments(BadUploader):
    """Leaves the segments of a failed upload without a word."""

    trips = ("orphans",)

    def give_up(self) -> None:
        pass


@caught_by("swift", {"upload-manifest-lost": "hole"})
class RemovesWhatItPublished(BadUploader):
    """Takes a lost answer for a failure, and removes the segments of the object that is there."""

    attempts = 1

    def is_there_in_swift(self, rows: list[dict[str, Any]]) -> bool:
        return False


@caught_by("swift", {"upload-of-any-size[size=256KiB+1]": "truncated"})
class LeavesASegmentOut(BadUploader):
    """Makes its manifest of all segments but the last."""

    trips = ("part-list",)

    def manifest(self, rows: list[dict[str, Any]]) -> None:
        super().manifest(rows if self.honest else rows[:-1])


@caught_by("swift", {"upload-token-expires": "needless_failure"})
class NeverSignsInAgain(BadUploader):
    """Takes an expired token for a refusal."""

    def authorized(self, method: str, path: str, fields: dict[str, str], body: bytes = b"") -> Reply:
        self.token = self.token or self.again(lambda _: self.sign_in()).fields["x-auth-token"]
        base = self.plain.split("/midstream/")[0]
        return self.ask(method, f"{base}/{path}", {**fields, "X-Auth-Token": self.token}, body)


NOT_SINS = {BadUploader, Uploader}
