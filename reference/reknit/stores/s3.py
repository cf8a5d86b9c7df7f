"""S3 and what speaks like it: s3://bucket/key, through boto3.

Settings in `Options.store`, with the environment variables that stand in for them:

    endpoint_url    AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL     addressed by path when given
    region          AWS_REGION, AWS_DEFAULT_REGION            us-east-1
    access_key      AWS_ACCESS_KEY_ID                         without: boto3's own search
    secret_key      AWS_SECRET_ACCESS_KEY
    session_token   AWS_SESSION_TOKEN
    addressing      path, virtual or auto

boto3 finds endpoint and credentials and signs; sending, retries, checksums and the body are ours. If-Match
protects a resume: S3 evaluates it, and MinIO, moto and Swift's s3api ignore If-Range. Where the bucket keeps
versions, a resume also names the one that was begun: what is replaced or deleted meanwhile is then still had
to its end. Uploads are in _s3_upload.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._representation import Dialect, content_length
from reknit._validators import strong_etag
from reknit.stores import _s3_direct
from reknit.stores._base import Head, Response, settings
from reknit.stores._uploader import Uploader
from reknit.stores._wire import as_fault, ask, range_headers

SCHEMES = ("s3",)

_SETTINGS: dict[str, tuple[str, ...]] = {
    "endpoint_url": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "access_key": ("AWS_ACCESS_KEY_ID",),
    "secret_key": ("AWS_SECRET_ACCESS_KEY",),
    "session_token": ("AWS_SESSION_TOKEN",),
    "addressing": (),
    "least_part": (),
}

# Error codes that say less than they mean by their status: an expired token is a 400, as is a slow client.
_TRUE_STATUS = {"ExpiredToken": 401, "TokenRefreshRequired": 401, "RequestTimeout": 408, "SlowDown": 503}

# Answers that may mean: right bucket, wrong region.
_ELSEWHERE = frozenset({301, 307, 400})

# Answers that may be about the version only: it is removed, or the permission s3:GetObjectVersion is lacking,
# which is another one than s3:GetObject.
_NOT_BY_VERSION = frozenset({403, 404})

_OURS = ("endpoint_url", "least_part")  # settings that the client is not made with

_OPERATIONS = {
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "PutObject": "put_object",
    "CreateMultipartUpload": "create_multipart_upload",
    "UploadPart": "upload_part",
    "ListParts": "list_parts",
    "CompleteMultipartUpload": "complete_multipart_upload",
    "AbortMultipartUpload": "abort_multipart_upload",
}
_SEND_BODIES = ("PutObject", "UploadPart")

_ERROR_BODY = 16 << 10


def etag_is_md5(headers: Mapping[str, str]) -> bool:
    """Not for KMS or customer keys; multipart tags end in -N and are no 32 hex digits to begin with."""
    kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return not kms and "x-amz-server-side-encryption-customer-algorithm" not in headers


class _Signed(BaseException):
    """Brings a signed request out of botocore before it is sent.

    Not an Exception: botocore would take that for a failure to send, and think about a retry.
    """

    def __init__(self, request: Any) -> None:
        self.request = request


class S3Store:
    """One object."""

    dialect = Dialect("If-Match", etag_is_md5, stored_coding=True)

    def __init__(self, bucket: str, key: str, options: Options) -> None:
        self._target = {"Bucket": bucket, "Key": key}
        self._options = options
        self._versions: dict[str, str] = {}  # entity tag -> version id, as answers told them
        self._adopt(_settings(options.store))
        self.identity = f"s3 {self._settings['endpoint_url']} {bucket}/{key}"

    def stat(self) -> Response:
        """HeadObject."""
        return self._noted(self._ask("HEAD", {}))

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """GetObject, with Range and If-Match for a resume, of the version that had the tag."""
        params = range_headers(first, last, "IfMatch", etag)
        version = self._versions.get(params.get("IfMatch", ""))
        if version is not None:
            answer = self._ask("GET", {**params, "VersionId": version})
            if answer.status not in _NOT_BY_VERSION:
                return answer
            answer.close()
            self._versions.pop(params["IfMatch"], None)
        return self._noted(self._ask("GET", params))

    def renew(self) -> bool:
        """Ask the caller for new settings."""
        fresh = self._options.renew() if self._options.renew is not None else None
        if not isinstance(fresh, Mapping):
            return False
        self._adopt(_settings({**self._settings, **fresh}))
        return True

    def _noted(self, answer: Response) -> Response:
        """The same, its version remembered. `null` pins nothing: a suspended bucket overwrites it."""
        tag, version = strong_etag(answer.headers), answer.headers.get("x-amz-version-id", "null")
        if answer.status in (200, 206) and tag is not None and version != "null":
            self._versions[tag] = version
        return answer

    def _adopt(self, found: dict[str, str]) -> None:
        self._settings = found
        try:  # what is missing or wrong is to be told now
            if _s3_direct.enough(found):
                import botocore.auth  # noqa: F401
            else:
                self._client()
        except ImportError as error:
            raise CallerError("s3:// needs boto3: pip install 'midstream[s3]'") from error
        except ValueError as error:
            raise CallerError(f"S3 settings: {error}") from error

    def _client(self) -> Any:
        return _client(*(value for name, value in self._settings.items() if name not in _OURS))

    def _ask(self, method: str, params: dict[str, str]) -> Response:
        response = self._send(method, params)
        if self.moved(response.status, response.headers):
            response.close()
            response = self._send(method, params)
        return response if response.status < 300 else _refusal(response)

    def _send(self, method: str, params: dict[str, str]) -> Response:
        if _s3_direct.enough(self._settings):
            url, headers = _s3_direct.sign(method, self._target, self._settings, params)
        else:
            signed = self.sign("HeadObject" if method == "HEAD" else "GetObject", params)
            url = signed.url
            headers = {name: text(value) for name, value in signed.headers.items()}
        return ask(method, url, self._options, headers, hops=0)

    def moved(self, status: int, headers: Mapping[str, str]) -> bool:
        """Whether it says that the bucket is in another region; that one is asked from now on."""
        region = headers.get("x-amz-bucket-region", self._settings["region"])
        if status not in _ELSEWHERE or region == self._settings["region"]:
            return False
        self._adopt({**self._settings, "region": region})
        return True

    def sign(self, operation: str, params: Mapping[str, Any]) -> Any:
        """The request of an operation, as botocore would send it."""
        import botocore.exceptions as be

        call = getattr(self._client(), _OPERATIONS[operation])
        try:
            call(**self._target, **params, ReknitEndpoint=self._settings["endpoint_url"])
        except _Signed as signed:
            return signed.request
        except (be.NoCredentialsError, be.PartialCredentialsError, be.ParamValidationError) as error:
            raise CallerError(f"S3: {error}") from error
        except (be.ClientError, be.BotoCoreError) as error:
            # Credentials and sessions are fetched over the network, too.
            raise as_fault(error, otherwise="protocol") from error
        raise AssertionError("botocore did not come to sending")


def uploader(url: str, options: Options) -> Uploader:
    """The way to store one object. Raises CallerError as `connect` does."""
    from reknit.stores import _s3_upload  # it needs this module

    return _s3_upload.S3Uploader(connect(url, options), options)


def connect(url: str, options: Options) -> S3Store:
    """A store for one object. Raises CallerError for a bad URL or setting, or when boto3 is missing."""
    parts = urlsplit(url)
    key = unquote(parts.path[1:])
    if not parts.netloc or not key:
        raise CallerError(f"not an S3 URL (s3://bucket/key): {url!r}")
    return S3Store(parts.netloc, key, options)


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    found = settings("S3", given, _SETTINGS)
    if given.get("access_key"):
        found["session_token"] = given.get("session_token", "")  # one from the environment is of other keys
    endpoint = urlsplit(found["endpoint_url"])
    if found["endpoint_url"] and (endpoint.scheme not in ("http", "https") or not endpoint.hostname):
        raise CallerError(f"S3 settings: endpoint_url is not an http URL: {found['endpoint_url']!r}")
    found["region"] = found["region"] or "us-east-1"
    found["addressing"] = found["addressing"] or ("path" if found["endpoint_url"] else "auto")
    return found


@lru_cache(maxsize=16)
def _client(region: str, access_key: str, secret_key: str, session_token: str, addressing: str) -> Any:
    """A client for any endpoint: making one takes longer than a small download."""
    from botocore.config import Config

    style: Any = {"addressing_style": addressing}
    # No checksum of a body that botocore is not given; older ones add none and do not know the option.
    none: Any = {"request_checksum_calculation": "when_required"}
    none = none if hasattr(Config(), "request_checksum_calculation") else {}
    client = _session().client(
        "s3",
        region_name=region,
        aws_access_key_id=access_key or None,
        aws_secret_access_key=secret_key or None,
        aws_session_token=session_token or None,
        config=Config(retries={"total_max_attempts": 1}, s3=style, **none),
    )
    on = client.meta.events.register
    for name in _OPERATIONS:
        on(f"provide-client-params.s3.{name}", _note_endpoint)
        on(f"before-send.s3.{name}", _hand_over)
    on("before-endpoint-resolution.s3", _set_endpoint)
    for name in ("GetObject", "HeadObject"):
        on(f"before-sign.s3.{name}", _want_checksum)
    for name in _SEND_BODIES:
        on(f"before-sign.s3.{name}", _leave_body_unsigned)
    return client


@lru_cache(maxsize=1)
def _session() -> Any:
    import boto3

    return boto3.session.Session()


def _note_endpoint(params: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    context["reknit_endpoint"] = params.pop("ReknitEndpoint")


def _set_endpoint(builtins: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
    # Per call, for a client is bound to its endpoint otherwise, and takes some 15 ms to make.
    if endpoint := context.get("reknit_endpoint"):
        builtins["SDK::Endpoint"] = endpoint


def _want_checksum(request: Any, **_: Any) -> None:
    # Newer botocores set it too, and these headers are a multimap: it would be signed with both values.
    del request.headers["x-amz-checksum-mode"]
    request.headers["x-amz-checksum-mode"] = "ENABLED"


def _leave_body_unsigned(request: Any, **_: Any) -> None:
    # Content-MD5 is signed, and binds the body to the signature without hashing it once more.
    from botocore.config import Config

    request.context["client_config"] = Config(s3={"payload_signing_enabled": False})


def _hand_over(request: Any, **_: Any) -> None:
    raise _Signed(request)


def text(value: str | bytes) -> str:
    """A header's value."""
    return value if isinstance(value, str) else value.decode("latin-1")


def _refusal(response: Response) -> Response:
    """The same with its reason, and the status it means."""
    left = content_length(response.headers)
    body = b""
    try:
        while len(body) < min(_ERROR_BODY, left if left is not None else _ERROR_BODY):
            block = response.read(_ERROR_BODY)
            if not block:
                break
            body += block
    except StoreFault:
        pass
    response.close()
    status, _, reason = meaning(response.status, body)
    return Head(status, {**response.headers, **({"x-reknit-reason": reason} if reason else {})})


def meaning(status: int, body: bytes) -> tuple[int, str, str]:
    """The status that an error means, its code, and its reason."""
    told = dict(re.findall(r"<(Code|Message)>([^<]*)</", body.decode(errors="replace")))
    reason = ": ".join(html.unescape(said) for said in told.values())
    code = told.get("Code", "")
    return _TRUE_STATUS.get(code, status), code, reason
