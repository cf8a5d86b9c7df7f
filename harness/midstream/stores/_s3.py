"""What every S3 store of ours has in common: out of band by boto3, in band by presigned URLs."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote

from midstream._content import Content
from midstream._errors import HarnessError, StoreDied, UsageError
from midstream._processes import ServerProcess
from midstream.stores import CONTAINER, OTHER, Access, ObjectInfo, RunningStore, Traits, refusal
from midstream.stores._bodies import body, pieces
from midstream.stores._s3_versions import Versions

REGION = "us-east-1"
LAYOUTS = ("plain", "multipart", "versioned")
UPLOADS = ("put", "multipart")
PART = 5 * 2**20  # the least S3 takes for a part that is not the last
SMALL_PART = 64 * 2**10  # and what stores that can be told so take, for cases that are quick
EXPIRES = 86_400  # seconds a presigned URL holds: longer than any case
_T = TypeVar("_T")

# Query keys that make a request one for something other than the object or the listing.
_SUBRESOURCES = frozenset(
    """
    accelerate acl analytics attributes cors delete encryption intelligent-tiering inventory legal-hold
    lifecycle location logging metrics notification object-lock ownershipControls policy policyStatus
    publicAccessBlock replication requestPayment restore retention select session tagging torrent uploadId
    uploads versioning versions website
    """.split()  # noqa: SIM905 - as a list it would be a page long
)


_UPLOADS = {
    ("POST", "uploads"): "create_upload",
    ("PUT", "partNumber"): "upload_part",
    ("POST", "uploadId"): "complete_upload",
    ("DELETE", "uploadId"): "abort_upload",
    ("GET", "uploadId"): "list_parts",
}
_OBJECTS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}


def operation(method: str, target: str) -> str:
    """The store operation of a path-style S3 request."""
    path, _, query = target.partition("?")
    _, _, key = path.lstrip("/").partition("/")
    bucket = path.lstrip("/").partition("/")[0]
    keys = {unquote(name) for name, _ in parse_qsl(query, keep_blank_values=True)}
    if not bucket:
        return "other"
    if key and keys & {"uploads", "uploadId"}:
        return next((name for (m, word), name in _UPLOADS.items() if m == method and word in keys), "other")
    if "uploads" in keys and method == "GET":
        return "list_uploads"
    if keys & _SUBRESOURCES:
        return "other"
    if key:
        return _OBJECTS.get(method, "other")
    return "list_objects" if method == "GET" else "other"


@dataclass(frozen=True)
class Keys:
    """An access key and its secret."""

    access: str
    secret: str


class RunningS3(RunningStore):
    """An S3 store in a server process of ours, which it takes over together with its folder."""

    layouts: tuple[str, ...] = LAYOUTS

    def __init__(self, name: str, server: ServerProcess, folder: Path, keys: Keys, version: str) -> None:
        self.id = name
        self.port = server.ready["port"]
        self.pid = server.pid
        self.version = version
        self._server = server
        self._folder = folder
        self._keys = keys
        self._client: Any = None
        self._lock = threading.Lock()
        self._versions = Versions(self.call)

    def client(self) -> Any:
        """A boto3 client of the store itself; made when first needed: that takes a quarter of a second."""
        with self._lock:
            if self._client is None:
                self._client = make_client(f"http://127.0.0.1:{self.port}", self._keys)
            return self._client

    def call(self, what: Callable[[Any], _T]) -> _T:
        """Do something with the client; errors that are not the store's answer become StoreDied."""
        from botocore import exceptions

        try:
            return what(self.client())
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise StoreDied(f"{self.id}: does not answer on port {self.port}: {error}") from error
        except exceptions.ClientError as error:
            raise HarnessError(f"{self.id}: {error}") from error

    def create_bucket(self) -> None:
        self.call(lambda s3: s3.create_bucket(Bucket=CONTAINER))

    def put(self, key: str, content: Content, traits: Traits) -> None:
        if reason := refusal(self.id, self.layouts, traits):
            raise UsageError(reason)
        versioned = traits.layout == "versioned"
        if versioned != (self._where(key)["Bucket"] != CONTAINER):
            self.purge(key)  # it was made the other way before
        if versioned:
            self._versions.adopt(key)
        if traits.layout == "multipart":
            self._put_parts(key, content)
        else:
            self.call(lambda s3: s3.put_object(**self._where(key), Body=body(content)))

    def _where(self, key: str) -> dict[str, str]:
        """Where an object lies, in the words of boto3."""
        return {"Bucket": self._versions.bucket(key), "Key": key}

    def _put_parts(self, key: str, content: Content) -> None:
        if content.size <= PART:
            raise UsageError(f"{self.id}: a multipart object has more than {PART} bytes, not {content.size}")

        def upload(s3: Any) -> None:
            where = {"Bucket": CONTAINER, "Key": key}
            where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
            parts = []
            for number, (first, length) in enumerate(pieces(content.size, PART), 1):
                done = s3.upload_part(**where, PartNumber=number, Body=body(content, first, length))
                parts.append({"PartNumber": number, "ETag": done["ETag"]})
            s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

        self.call(upload)

    def stat(self, key: str) -> ObjectInfo | None:
        def head(s3: Any) -> ObjectInfo | None:
            try:
                found = s3.head_object(**self._where(key))
            except s3.exceptions.ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return None
                raise
            return ObjectInfo(found["ContentLength"], found.get("ETag"))

        return self.call(head)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        info = self.stat(key)
        if info is None:
            raise UsageError(f"{self.id}: no object is called {key!r}")
        end = info.size if length is None else min(info.size, start + length)
        if start >= end:
            return b""

        def get(s3: Any) -> bytes:
            found = s3.get_object(**self._where(key), Range=f"bytes={start}-{end - 1}")
            data: bytes = found["Body"].read()
            return data

        return self.call(get)

    def delete(self, key: str) -> None:
        self.call(lambda s3: s3.delete_object(**self._where(key)))

    def purge(self, key: str) -> None:
        if not self._versions.purge(key):
            self.delete(key)

    def _unfinished(self, key: str) -> list[dict[str, str]]:
        """The uploads that were begun for the key, or one that it begins."""

        def listing(s3: Any) -> list[dict[str, str]]:
            # MinIO takes the prefix for a whole key, and moto takes no notice of it (both measured).
            found: dict[str, dict[str, str]] = {}
            for prefix in (key, f"{key}{OTHER}"):
                page = s3.list_multipart_uploads(Bucket=CONTAINER, Prefix=prefix).get("Uploads", [])
                found |= {entry["UploadId"]: entry for entry in page if entry["Key"].startswith(key)}
            return list(found.values())

        return self.call(listing)

    def orphans(self, key: str) -> list[str]:
        strays = [f"an unfinished upload of {entry['Key']}" for entry in self._unfinished(key)]
        return strays + [f"the object {name}" for name in self._named(key)]

    def _named(self, key: str) -> list[str]:
        """Other objects whose names begin with the key."""

        def listing(s3: Any) -> list[str]:
            page = s3.list_objects_v2(Bucket=CONTAINER, Prefix=key).get("Contents", ())
            return [entry["Key"] for entry in page if entry["Key"] != key]

        return self.call(listing)

    def leave(self, key: str, content: Content, part: int) -> None:
        def upload(s3: Any) -> None:
            where = {"Bucket": CONTAINER, "Key": key}
            where["UploadId"] = s3.create_multipart_upload(**where)["UploadId"]
            for number, (first, length) in enumerate(list(pieces(content.size, part))[:-1], 1):
                s3.upload_part(**where, PartNumber=number, Body=body(content, first, length))

        self.call(upload)

    def clear(self, key: str) -> None:
        for entry in self._unfinished(key):
            where = {"Bucket": CONTAINER, "Key": entry["Key"], "UploadId": entry["UploadId"]}
            self.call(lambda s3, where=where: s3.abort_multipart_upload(**where))  # type: ignore[misc]
        for name in (key, *self._named(key)):
            self.purge(name)

    def keys(self) -> list[str]:
        def listing(s3: Any) -> list[str]:
            listed = s3.get_paginator("list_objects_v2")
            where = self._versions.buckets()
            pages = (page for name in where for page in listed.paginate(Bucket=name, Prefix=""))
            return sorted(entry["Key"] for page in pages for entry in page.get("Contents", ()))

        return self.call(listing)

    def _address(self, key: str) -> tuple[str, str]:
        """Bucket and key as a driver is to name them."""
        return self._versions.bucket(key), key

    def access(self, key: str, base_url: str) -> Access:
        base = base_url.rstrip("/")
        env = {
            "AWS_ACCESS_KEY_ID": self._keys.access,
            "AWS_SECRET_ACCESS_KEY": self._keys.secret,
            "AWS_ENDPOINT_URL": base,
            "AWS_DEFAULT_REGION": REGION,
        }
        bucket, name = self._address(key)
        url = presign(f"{base}/{bucket}/{quote(name)}", self._keys)
        return Access("s3", url, f"s3://{bucket}/{name}", env)

    def upload_access(self, key: str, base_url: str) -> Access:
        bucket, name = self._address(key)
        url = presign(f"{base_url.rstrip('/')}/{bucket}/{quote(name)}", self._keys, "PUT")
        return replace(self.access(key, base_url), url=url)

    def alive(self) -> bool:
        return self._server.alive()

    def stop(self) -> None:
        self._server.stop()
        with self._lock:
            if self._client is not None:
                self._client.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def presign(url: str, keys: Keys, method: str = "GET") -> str:
    """A URL for one method signed for the host in it (signature version 4), by botocore."""
    from botocore.auth import S3SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=url)
    S3SigV4QueryAuth(Credentials(keys.access, keys.secret), "s3", REGION, EXPIRES).add_auth(request)
    return str(request.url)


def make_client(endpoint: str, keys: Keys) -> Any:
    """A boto3 client that heeds no proxy, profile or checksum setting of the user's environment."""
    import boto3
    import botocore.session
    from botocore.config import Config

    core = botocore.session.Session()
    for name, nowhere in (("profile", None), ("config_file", "/dev/null"), ("credentials_file", "/dev/null")):
        core.session_var_map[name] = (None, None, nowhere, None)
    session = boto3.session.Session(
        aws_access_key_id=keys.access,
        aws_secret_access_key=keys.secret,
        region_name=REGION,
        botocore_session=core,
    )
    config = Config(
        connect_timeout=5,
        read_timeout=60,
        proxies={},
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    return session.client("s3", endpoint_url=endpoint, config=config)
