"""GET and HEAD of an object whose address and keys are known: signed by botocore, without a client of it.

A client reads S3's whole service model first, which takes longer than many a download. It is needed for what
botocore finds out: endpoints, regions, credentials. Source: AWS Signature Version 4; path-style requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote


_HEADERS = {"Range": "Range", "IfMatch": "If-Match"}


class Keys(NamedTuple):
    """In the words in which botocore asks for them; "" is no token."""

    access_key: str
    secret_key: str
    token: str


def enough(settings: Mapping[str, str]) -> bool:
    """Whether nothing has to be found out."""
    known = all(settings[name] for name in ("endpoint_url", "access_key", "secret_key"))
    return known and settings["addressing"] == "path"


def sign(
    method: str, bucket: str, key: str, settings: Mapping[str, str], params: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The URL and all headers of the request; `params` are in botocore's words. Raises ImportError."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest

    url = f"{settings['endpoint_url'].rstrip('/')}/{quote(bucket)}/{quote(key, safe='/~')}"
    if "VersionId" in params:
        url += f"?versionId={quote(params['VersionId'], safe='')}"
    headers = {_HEADERS[name]: value for name, value in params.items() if name in _HEADERS}
    keys = Keys(settings["access_key"], settings["secret_key"], settings["session_token"])
    request = AWSRequest(method, url, {**headers, "x-amz-checksum-mode": "ENABLED"})
    S3SigV4Auth(keys, "s3", settings["region"]).add_auth(request)
    return url, dict(request.headers.items())
