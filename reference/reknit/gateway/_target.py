"""From the target of a request to the URL of an object, and nowhere else. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Container
from urllib.parse import quote, unquote_to_bytes, urlsplit

from reknit._errors import CallerError

MAX_KEY = 4096  # S3 and Swift allow 1,024 bytes, file systems less


class BadTarget(Exception):
    """The request names nothing that can be below the prefix; `status` is the answer to that."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def prefix_of(url: str) -> str:
    """The prefix of all objects, ending in a slash. Raises CallerError for a URL that cannot be one."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise CallerError(f"not a URL: {error}") from None
    if not parts.scheme or not (parts.netloc or parts.path):
        raise CallerError(
            "not a store URL (s3://bucket/prefix/, swift://container/, http://…/, file:///dir/)"
        )
    if parts.query or parts.fragment:
        raise CallerError("a store URL to serve has no query or fragment: object names follow its path")
    return url if url.endswith("/") else f"{url}/"


def key_of(target: str) -> str:
    """The object's name below the prefix, decoded from a target as it is on the wire, one character for each
    byte. Raises BadTarget.

    A gateway is no proxy: a target that names a host is not for us (RFC 9110 §15.5.20). A name that a path
    would be resolved out of the prefix with is refused rather than normalised, encoded or not.
    """
    if not target.startswith("/") or target.startswith("//"):
        raise BadTarget(421, "this is no proxy: ask for a path")
    raw = unquote_to_bytes(target.partition("?")[0][1:].encode("latin-1", "replace"))
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        raise BadTarget(400, "the path is not UTF-8") from None
    if not key or len(raw) > MAX_KEY:
        raise BadTarget(404, "there is no such object")
    if re.search(r"[\x00-\x1f\x7f\\]", key) or {".", ".."} & set(key.split("/")) or key.startswith("/"):
        raise BadTarget(400, "the path leads elsewhere")
    return key


def is_local(host: str) -> bool:
    """Whether a host, without a port, means this machine and is reached from it alone."""
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_named(field: str, names: Container[str]) -> bool:
    """Whether a Host field (RFC 9110 §7.2) names a gateway that only this machine reaches, or one of `names`.

    A page whose own name was made to mean 127.0.0.1 (DNS rebinding) has its browser say that name. The port
    is another's where something stands before us.
    """
    host = re.sub(r":[0-9]*$", "", field.strip())
    return is_local(host) or host.lower() in names


def url_of(prefix: str, key: str) -> str:
    """The URL of an object below the prefix."""
    return prefix + quote(key, safe="/")
