"""Sins about when to try again."""

from __future__ import annotations

import os
import time
from typing import Any

from _bases import Saboteur, Trusting, caught_by
from _correct import BUSY, Broken, Refused, Reply


@caught_by({"always-cut-at-the-same-byte": "hang"})
class RetriesForEver(Saboteur):
    """Tries again without any limit (novoda/download-manager#442)."""

    attempts = 1 << 30
    base = cap = 0.1
    deadline = 2.0


@caught_by({"cut-mid-body": "needless_failure", "hangup-before-the-answer": "needless_failure"})
class NeverRetries(Saboteur):
    """Fails at the first thing that goes wrong (boto/boto3#3781)."""

    slow = ("slow-then-cut", "late-head-on-resume", "refused-*")

    attempts = 1


@caught_by({"cut-mid-body": "needless_failure"})
class RetriesOnlyBeforeTheBody(Saboteur):
    """Retries requests and never bodies (boto3 get_object, gcs generation PR 240)."""

    def body(self, reply: Reply) -> Any:
        try:
            yield from super().body(reply)
        except (Broken, OSError) as error:
            raise Refused(str(error)) from error


@caught_by({"cut-mid-body": "needless_failure"})
class RetriesResetsOnly(Saboteur):
    """Takes only a reset for something to retry, and an early end for final (NixOS/nix#8804)."""

    def failed(self, error: Exception) -> None:
        if not isinstance(error, ConnectionResetError):
            raise Refused(str(error)) from error
        super().failed(error)


@caught_by({"cut-eight-times": "needless_failure"})
class NeverRefillsItsAttempts(Saboteur):
    """Counts the drops of the whole transfer against one budget (huggingface_hub PR 1784)."""

    def progress(self) -> None:
        failures = self.failures
        super().progress()
        self.failures = failures


@caught_by({"busy-on-resume": "needless_failure", "busy-at-first": "needless_failure"})
class GivesUpOnABusyStore(Saboteur):
    """Takes 429 and 5xx for final (GNU Wget 1.21.3)."""

    def retry_after(self, reply: Reply) -> float:
        raise Refused(f"status {reply.status}")


@caught_by({"retry-after-a-second": "retry_storm"})
class IgnoresRetryAfter(Saboteur):
    """Comes back at once when it was asked to wait (RFC 9110 section 10.2.3)."""

    trips = ("retry-after",)

    def retry_after(self, reply: Reply) -> float:
        return 0.0


@caught_by({"retry-after-a-date": "needless_failure"})
class FailsOverADateInRetryAfter(Saboteur):
    """Reads Retry-After as a number and stumbles over a date."""

    def retry_after(self, reply: Reply) -> float:
        return float(reply.get("retry-after") or 0)


@caught_by({"always-cut-at-the-same-byte": "retry_storm", "busy-for-ever": "retry_storm"})
class RetriesInEveryLayer(Saboteur):
    """Has a retry loop around a retry loop around a retry loop (boto/boto3#3876)."""

    trips = ("requests",)
    layers = 8

    def failed(self, error: Exception) -> None:
        if self.failures + 1 == self.attempts and self.layers:
            self.failures, self.layers = 0, self.layers - 1
        super().failed(error)


@caught_by({"final-at-first": "retry_storm"})
class RetriesFinalAnswers(Saboteur):
    """Repeats a request that got 400, 403 or 404 as if it were busy (aws/aws-sdk-core-ruby#207)."""

    trips = ("final-answers",)

    def judge(self, reply: Reply, asked: int | None) -> Any:
        if 400 <= reply.status < 500 and reply.status not in BUSY | {412, 416}:
            raise Broken(f"status {reply.status}")
        return super().judge(reply, asked)


@caught_by({"changed-for-ever-on-resume": "retry_storm"})
class RepeatsAFailedCondition(Saboteur):
    """Sends the condition that failed with 412 again and again (sapcc/maria-back-me-up PR 143)."""

    trips = ("final-answers",)

    def on_412(self, reply: Reply) -> Any:
        raise Broken("412")


@caught_by({"redirect-for-ever": "retry_storm"})
class FollowsRedirectsForEver(Saboteur):
    """Does not count redirects."""

    redirects = 200


@caught_by({"redirected-to-another-host": "unsafe"})
class TakesCredentialsToAnotherHost(Saboteur):
    """Sends Authorization along to wherever it is redirected (CVE-2018-18074 of requests)."""

    trips = ("credentials",)

    def credentials(self, url: str) -> dict[str, str]:
        return self.headers


@caught_by({"cut-mid-body": "restarted", "cut-three-times": "restarted"})
class RefetchesFromZero(Saboteur):
    """Begins anew at each drop (curl --retry, git-lfs)."""

    trips = ("refetch",)

    def continuable(self) -> bool:
        return False


@caught_by({"final-at-first": "foreign", "busy-at-first": "foreign"})
class StoresTheErrorPage(Trusting):
    """Looks at no status, so that an error page is the object (bmorcelli/Launcher PR 382)."""

    def judge(self, reply: Reply, asked: int | None) -> Any:
        return super().judge(reply, asked) if reply.status in (200, 206, 416) else self.fresh(reply)


@caught_by({"page-with-200-on-resume": "foreign"})
class StoresAPageThatSaysOk(Trusting):
    """Takes the login page that answers a continuation with 200 for the new object (captive portals)."""

    def is_page(self, reply: Reply) -> bool:
        return False


@caught_by({"final-at-first": "crash"})
class CrashesOnAnUnexpectedStatus(Saboteur):
    """Holds a status it does not know for impossible, and aborts."""

    def judge(self, reply: Reply, asked: int | None) -> Any:
        if reply.status not in (200, 206, 416, 412, 404, *BUSY):
            os.abort()
        return super().judge(reply, asked)


@caught_by({"always-cut-at-the-same-byte": "truncated", "final-at-first": "truncated"})
class ReportsSuccessWhateverHappens(Saboteur):
    """Swallows the error and publishes what it has (aws/aws-cli#1446)."""

    def fetch(self) -> None:
        try:
            super().fetch()
        except Exception:
            self.held = self.file.seek(0, 2)


@caught_by({"stall-mid-body": "hang", "stall-before-head": "hang"})
class WaitsForEver(Saboteur):
    """Has no limit on silence (aws/aws-sdk-js-v3#8098, huggingface_hub#4520)."""

    slow = ("stall-mid-body", "stall-before-head", "stall-inside-head")
    deadline = 2.0

    def __init__(self, job: Any) -> None:
        super().__init__(job)
        self.timeout = None


@caught_by({"slow-but-steady": "needless_failure"})
class LimitsTheWholeTransfer(Saboteur):
    """Ends a transfer that moves, because it takes long (apache/arrow-rs-object-store#15)."""

    slow = ("slow-but-steady", "slow-second-half")

    def fetch(self) -> None:
        self.limit = time.monotonic() + 1.0
        super().fetch()

    def place(self, data: bytes) -> None:
        if time.monotonic() > self.limit:
            raise Refused("a second has passed")
        super().place(data)


@caught_by({"stall-mid-body": "truncated"})
class TakesSilenceForTheEnd(Trusting):
    """Calls a transfer done when nothing more comes (boto/boto3#540)."""

    slow = ("stall-*",)

    def body(self, reply: Reply) -> Any:
        try:
            yield from super().body(reply)
        except TimeoutError:
            self.pin.total = self.held

    def ended(self, reply: Reply, end: int | None) -> bool:
        return self.is_whole() or super().ended(reply, end)


@caught_by({"stall-mid-body": "needless_failure", "stall-before-head": "needless_failure"})
class FailsOverSilence(Saboteur):
    """Gives up when a connection falls silent, though the store answers on another one (aws/aws-cli#1775)."""

    slow = ("stall-*", "many-short-stalls", "replaced-while-silent")

    def failed(self, error: Exception) -> None:
        if isinstance(error, TimeoutError):
            raise Refused("timeout") from error
        super().failed(error)
