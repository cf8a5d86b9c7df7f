"""GET and HEAD of an object whose address and keys are known: signed by botocore, without a client of it.

A client reads S3's whole service model first, which takes longer than many a download. It is needed for what
botocore finds out: endpoints, regions, credentials. Source: AWS Signature Version 4; path-style requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

_HEADERS = {"Range": "Range", "IfMatch": "If-Match"}


def enough(settings: Mapping[str, str]) -> bool:
    """Whether nothing has to be found out."""
    known = all(settings[name] for name in ("endpoint_url", "access_key", "secret_key"))
    return known and settings["addressing"] == "path"


def sign(
    method: str, target: Mapping[str, str], settings: Mapping[str, str], params: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The URL and all headers of the request; `params` are in botocore's words. Raises ImportError."""
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    path = f"{quote(target['Bucket'])}/{quote(target['Key'], safe='/~')}"
    url = f"{settings['endpoint_url'].rstrip('/')}/{path}"
    if "VersionId" in params:
        url += f"?versionId={quote(params['VersionId'], safe='')}"
    headers = {_HEADERS[name]: value for name, value in params.items() if name != "VersionId"}
    keys = Credentials(settings["access_key"], settings["secret_key"], settings["session_token"] or None)
    request = AWSRequest(method, url, {**headers, "x-amz-checksum-mode": "ENABLED"})
    S3SigV4Auth(keys, "s3", settings["region"]).add_auth(request)
    return url, dict(request.headers.items())
