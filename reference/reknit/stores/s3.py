"""S3 and what speaks like it: s3://bucket/key, through boto3.

Settings in `Options.store`, with the environment variables that stand in for them:

    endpoint_url    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL     addressed by path when given
    region          AWS_REGION, AWS_DEFAULT_REGION            us-east-1
    access_key      AWS_ACCESS_KEY_ID                         without: boto3's own search
    secret_key      AWS_SECRET_ACCESS_KEY
    session_token   AWS_SESSION_TOKEN
    addressing      path, virtual or auto

boto3 makes the request and signs it; retries, checksums and reading the body are ours. If-Match protects a
resume: S3 evaluates it, and MinIO, moto and Swift's s3api ignore If-Range.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._ranges import range_header
from reknit._representation import Dialect
from reknit.stores._base import Head, Response
from reknit.stores._interim import teach
from reknit.stores._wire import HttpResponse, as_fault

SCHEMES = ("s3",)

_SETTINGS: dict[str, tuple[str, ...]] = {
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key": ("AWS_ACCESS_KEY_ID",),
    "secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "addressing": (),
}

# Error codes that say less than they mean by their status: an expired token is a 400, and so is a slow
# client.
_TRUE_STATUS = {"ExpiredToken": 401, "TokenRefreshRequired": 401, "RequestTimeout": 408, "SlowDown": 503}


def etag_is_md5(headers: Mapping[str, str]) -> bool:
    """Not for KMS or customer keys; multipart tags end in -N and are no 32 hex digits to begin with."""
    kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return not kms and "x-amz-server-side-encryption-customer-algorithm" not in headers


class S3Store:
    """One object."""

    dialect = Dialect("If-Match", etag_is_md5, stored_coding=True)

    def __init__(self, bucket: str, key: str, options: Options) -> None:
        self._target = {"Bucket": bucket, "Key": key}
        self._options, self._settings = options, _settings(options.store)
        self.identity = f"s3 {self._settings['endpoint_url']} {bucket}/{key}"
        self._client = self._connect()

    def stat(self) -> Response:
        """HeadObject."""
        return self._call("head_object", {})

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """GetObject, with Range and IfMatch for a resume."""
        params = {}
        if first or last is not None:
            params["Range"] = range_header(first, last)
        if etag is not None:
            params["IfMatch"] = etag
        return self._call("get_object", params)

    def renew(self) -> bool:
        """Ask the caller for new settings."""
        fresh = self._options.renew() if self._options.renew is not None else None
        if not isinstance(fresh, Mapping):
            return False
        self._settings = _settings({**self._settings, **fresh})
        self._client = self._connect()
        return True

    def close(self) -> None:
        """The client stays: making one costs more than a small download."""

    def _connect(self) -> Any:
        try:
            return _client(
                self._options.connect_timeout,
                self._options.idle_timeout,
                tuple(sorted(self._settings.items())),
            )
        except ValueError as error:
            raise CallerError(f"S3 settings: {error}") from error

    def _call(self, operation: str, params: dict[str, str]) -> Response:
        import botocore.exceptions as be

        try:
            answer = getattr(self._client, operation)(**self._target, **params)
        except be.ClientError as error:
            return _refusal(error.response)
        except (be.NoCredentialsError, be.PartialCredentialsError, be.ParamValidationError) as error:
            raise CallerError(f"S3: {error}") from error
        except (be.HTTPClientError, be.BotoCoreError) as error:
            if isinstance(error, (be.ConnectTimeoutError, be.EndpointConnectionError)):
                raise StoreFault("connect", f"connect: {error}") from error
            raise _fault(error) from error
        meta = answer["ResponseMetadata"]
        head = {name.lower(): value for name, value in meta["HTTPHeaders"].items()}
        if "Body" not in answer:
            return Head(meta["HTTPStatusCode"], head)
        # Below botocore's StreamingBody, which reads on until it has all that was asked for.
        return HttpResponse(meta["HTTPStatusCode"], head, answer["Body"]._raw_stream)


def connect(url: str, options: Options) -> S3Store:
    """A store for one object. Raises CallerError for a bad URL or setting, or when boto3 is missing."""
    parts = urlsplit(url)
    key = unquote(parts.path[1:])
    if not parts.netloc or not key:
        raise CallerError(f"not an S3 URL (s3://bucket/key): {url!r}")
    return S3Store(parts.netloc, key, options)


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    unknown = set(given) - set(_SETTINGS)
    if unknown:
        raise CallerError(
            f"unknown S3 setting {', '.join(sorted(unknown))}: known are {', '.join(_SETTINGS)}"
        )
    found = {
        name: given.get(name) or next((os.environ[v] for v in variables if os.environ.get(v)), "")
        for name, variables in _SETTINGS.items()
    }
    if given.get("access_key"):
        found["session_token"] = given.get("session_token", "")  # one from the environment is of other keys
    return found


@lru_cache(maxsize=16)
def _client(connect_timeout: float, idle_timeout: float, settings: tuple[tuple[str, str], ...]) -> Any:
    try:
        from botocore.config import Config
    except ImportError as error:
        raise CallerError("s3:// needs boto3: pip install 'midstream[s3]'") from error
    setting = dict(settings)
    endpoint = setting["endpoint_url"] or None
    style: Any = {"addressing_style": setting["addressing"] or ("path" if endpoint else "auto")}
    no_proxy: Any = {"http": None, "https": None}
    config: Any = Config(
        connect_timeout=connect_timeout,
        read_timeout=idle_timeout,
        retries={"total_max_attempts": 1},  # one layer retries, and it is not this one
        response_checksum_validation="when_required",
        s3=style,
        # A proxy from the environment would catch loopback, too.
        proxies=no_proxy if endpoint and _is_loopback(endpoint) else None,
        max_pool_connections=4,
    )
    client = _session().client(
        "s3",
        region_name=setting["region"] or "us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=setting["access_key"] or None,
        aws_secret_access_key=setting["secret_key"] or None,
        aws_session_token=setting["session_token"] or None,
        config=config,
    )
    # As headers, not as parameters: ChecksumMode as a parameter would make botocore verify as well, and fail
    # the read instead of leaving the decision to us.
    with contextlib.suppress(AttributeError):  # botocore's own pool; without it, 102 and 103 end a request
        teach(client._endpoint.http_session._manager)
    client.meta.events.register("before-sign.s3.GetObject", _add_headers)
    return client


@lru_cache(maxsize=1)
def _session() -> Any:
    import boto3

    return boto3.session.Session()


def _add_headers(request: Any, **_: Any) -> None:
    request.headers["x-amz-checksum-mode"] = "ENABLED"
    request.headers["Accept-Encoding"] = "identity"


def _is_loopback(endpoint: str) -> bool:
    host = urlsplit(endpoint).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _refusal(response: Mapping[str, Any]) -> Response:
    meta = response.get("ResponseMetadata", {})
    error = response.get("Error", {})
    code = str(error.get("Code", ""))
    head = {name.lower(): value for name, value in meta.get("HTTPHeaders", {}).items()}
    if not code.isdecimal():
        head["x-reknit-reason"] = ": ".join(part for part in (code, str(error.get("Message", ""))) if part)
    return Head(_TRUE_STATUS.get(code, int(meta.get("HTTPStatusCode", 0))), head)


def _fault(error: Exception) -> StoreFault:
    try:
        return as_fault(error)
    except Exception:
        return StoreFault("protocol", f"protocol: {error}")
