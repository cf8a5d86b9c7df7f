"""Any S3, Swift or HTTP server of the user's.

It is named by the environment: MIDSTREAM_EXTERNAL_URL, MIDSTREAM_EXTERNAL_KIND (s3, swift or http) and, where
it wants credentials, MIDSTREAM_EXTERNAL_ACCESS_KEY and MIDSTREAM_EXTERNAL_SECRET_KEY. For Swift the URL is
that of v1 authentication; for S3 MIDSTREAM_EXTERNAL_BUCKET may name a bucket that is there. Nothing is done
without MIDSTREAM_EXTERNAL_ALLOW=1.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

from midstream._errors import UsageError
from midstream._operations import HTTP_KINDS
from midstream._parts import Endpoint
from midstream._registry import Availability
from midstream.stores import RunningStore, Store
from midstream.stores._elsewhere import (
    RunningHttpElsewhere,
    RunningS3Elsewhere,
    RunningSwiftElsewhere,
    SwiftLogin,
)
from midstream.stores._s3 import Keys
from midstream.stores._s3 import operation as s3_operation
from midstream.stores._starting import installed, own_folder, require
from midstream.stores._swift_objects import operation as swift_operation

URL = "MIDSTREAM_EXTERNAL_URL"
S3_LAYOUTS = ("plain", "multipart")  # not every S3 keeps versions, nor lets everybody make a second bucket
_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """What the environment says."""

    allowed: bool
    url: str
    kind: str
    access: str
    secret: str
    bucket: str

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        def value(name: str) -> str:
            return env.get(f"MIDSTREAM_EXTERNAL_{name}", "").strip()

        return cls(
            value("ALLOW") == "1",
            value("URL"),
            value("KIND").lower() or "http",
            value("ACCESS_KEY"),
            value("SECRET_KEY"),
            value("BUCKET"),
        )

    def endpoint(self, env: Mapping[str, str]) -> Endpoint:
        """Raises UsageError when it is none, or on a machine that is not allowed."""
        return Endpoint.parse(URL, self.url, path=self.kind != "s3").permitted(URL, env)


def lack(settings: Settings, env: Mapping[str, str]) -> tuple[str, str]:
    """Why such a server is not used and what to do; two empty strings when it can be."""
    if not settings.url:
        return "no server is named", f"set {URL}, MIDSTREAM_EXTERNAL_KIND and MIDSTREAM_EXTERNAL_ALLOW=1"
    if not settings.allowed:
        return "nobody has allowed to write to it", "set MIDSTREAM_EXTERNAL_ALLOW=1"
    if settings.kind not in HTTP_KINDS:
        return f"MIDSTREAM_EXTERNAL_KIND is {settings.kind}", f"set it to one of {', '.join(HTTP_KINDS)}"
    try:
        settings.endpoint(env)
    except UsageError as error:
        reason, _, hint = str(error).partition("; ")
        return reason, hint
    if settings.kind != "http" and not (settings.access and settings.secret):
        return "no credentials", "set MIDSTREAM_EXTERNAL_ACCESS_KEY and MIDSTREAM_EXTERNAL_SECRET_KEY"
    return "", ""


class _FromEnvironment(Generic[_T]):
    """An attribute of a store that follows from what kind of server is named."""

    def __init__(self, of: Callable[[str], _T]) -> None:
        self._of = of

    def __get__(self, instance: object, owner: type | None = None) -> _T:
        return self._of(Settings.read(os.environ).kind)


class External(Store):
    """A server that is there already; what is written to it is removed at the end."""

    id: ClassVar[str] = "external"
    summary: ClassVar[str] = "an S3, Swift or HTTP server of yours, named by MIDSTREAM_EXTERNAL_URL"
    kind: ClassVar[str] = cast(str, _FromEnvironment(lambda kind: kind))
    signed: ClassVar[bool] = cast(bool, _FromEnvironment(lambda kind: kind == "s3"))
    layouts: ClassVar[tuple[str, ...]] = cast(
        "tuple[str, ...]", _FromEnvironment(lambda kind: S3_LAYOUTS if kind == "s3" else ("plain",))
    )

    def available(self) -> Availability:
        settings = Settings.read(os.environ)
        reason, hint = lack(settings, os.environ)
        if reason:
            return Availability(False, reason, hint)
        if settings.kind == "s3" and not (boto3 := installed("s3", "boto3", ("boto3",))).available:
            return boto3
        return Availability(how=f"attach {settings.endpoint(os.environ).url} ({settings.kind})")

    def start(self, folder: Path) -> RunningStore:
        require(self.id, self.available())
        settings = Settings.read(os.environ)
        endpoint = settings.endpoint(os.environ)
        own = own_folder(self.id, folder)
        try:
            return self._attach(settings, endpoint, own)
        except BaseException:
            shutil.rmtree(own, ignore_errors=True)
            raise

    def _attach(self, settings: Settings, endpoint: Endpoint, own: Path) -> RunningStore:
        match settings.kind:
            case "s3":
                keys = Keys(settings.access, settings.secret)
                return RunningS3Elsewhere(self.id, endpoint, keys, own, settings.bucket, layouts=S3_LAYOUTS)
            case "swift":
                login = SwiftLogin(endpoint.path or "/auth/v1.0", settings.access, settings.secret)
                return RunningSwiftElsewhere(self.id, endpoint, login, own)
            case _:
                auth = (settings.access, settings.secret) if settings.access else None
                return RunningHttpElsewhere(self.id, endpoint, auth, own)

    def operation(self, method: str, target: str, headers: Mapping[str, str]) -> str:
        match self.kind:
            case "s3":
                return s3_operation(method, target)
            case "swift":
                return swift_operation(method, target, headers)
            case _:
                return {"GET": "get_object", "HEAD": "head_object"}.get(method, "other")


MEMBER = External()
