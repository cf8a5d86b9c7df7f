"""Targets and heads: what a request may name, and what a response may tell."""

from __future__ import annotations

import pytest

from reknit import CallerError, Changed, Exhausted, Integrity, Refused
from reknit._checksums import Digest
from reknit._errors import StoreFault
from reknit._ranges import WHOLE, Slice
from reknit._representation import Representation
from reknit.gateway._handler import refusal
from reknit.gateway._head import fields
from reknit.gateway._judge import Decision
from reknit.gateway._server import address
from reknit.gateway._target import BadTarget, is_named, key_of, prefix_of, url_of

HERE = Representation(
    total=6, etag='"a"', digests=(Digest("md5", "00" * 16, "etag"), Digest("crc32", "00" * 4, "x"))
)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("/a", "a"),
        ("/a/b.c?x=../y", "a/b.c"),
        ("/a%20b%2Fc", "a b/c"),
        ("/..a/b..", "..a/b.."),
        ("/\u00c3\u00a9", "\u00e9"),  # as the wire has it: one character for each byte
        ("/a//b", "a//b"),
    ],
)
def test_keys(target: str, key: str) -> None:
    """A path is decoded once."""
    assert key_of(target) == key


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *((t, 421) for t in ("http://other/a", "//other/a", "a", "*", "", "other:443")),
        *((t, 404) for t in ("/", "/?a", "/" + "a" * 5000)),
        *((t, 400) for t in ("/..", "/a/../b", "/a/..", "/./a", "/%2e%2e/a", "/a%2f..%2fb", "/%2fetc")),
        *((t, 400) for t in ("/a%00", "/a%0d%0ab", "/a\\..\\b", "/%5c", "/%ff", "/a%7f")),
    ],
)
def test_targets_that_lead_elsewhere(target: str, status: int) -> None:
    """Another host, the prefix itself, and names that a path would be resolved out of it with."""
    with pytest.raises(BadTarget) as caught:
        key_of(target)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("host", "named"),
    [
        *(
            (h, True)
            for h in ("localhost", "LocalHost:80", "127.0.0.1:9", "127.1.2.3", "[::1]:80", "[::1]", "Ours:1")
        ),
        *((h, False) for h in ("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80")),
        *(
            (h, False)
            for h in ("10.0.0.1", "localhost@evil.example", "ours.evil.example", "[::2]", "localhost:x")
        ),
    ],
)
def test_hosts_of_a_gateway_for_this_machine(host: str, named: bool) -> None:
    """This machine by its addresses, `localhost`, and the names that were given; whatever the port."""
    assert is_named(host, {"ours"}) is named


def test_urls() -> None:
    """The key is quoted once, below a prefix that ends in a slash."""
    assert url_of(prefix_of("s3://b/p"), "a b/ü?#%2e") == "s3://b/p/a%20b/%C3%BC%3F%23%252e"
    assert prefix_of("file:///d/") == "file:///d/"


@pytest.mark.parametrize("url", ["", "nothing", "http://h/?x=1", "s3://b/#x", "http://[", "file:"])
def test_urls_that_are_no_prefix(url: str) -> None:
    """No scheme, no place, or something behind the path."""
    with pytest.raises(CallerError):
        prefix_of(url)


@pytest.mark.parametrize(
    ("text", "remote", "found"),
    [
        ("127.0.0.1:80", False, ("127.0.0.1", 80)),
        ("localhost:0", False, ("localhost", 0)),
        ("[::1]:9", False, ("::1", 9)),
        ("0.0.0.0:9", True, ("0.0.0.0", 9)),
        *((text, False, None) for text in ("0.0.0.0:9", "example.com:9", "[::]:9")),
        *((text, True, None) for text in ("", "9", ":9", "h:", "h:x", "h:65536", "h:-1")),
    ],
)
def test_addresses(text: str, remote: bool, found: tuple[str, int] | None) -> None:
    """Where to listen: this machine alone, unless others are allowed."""
    if found is None:
        with pytest.raises(CallerError, match="--listen"):
            address(text, allow_remote=remote)
    else:
        assert address(text, allow_remote=remote) == found


STORE = {
    "content-type": "text/plain; charset=x",
    "content-encoding": "gzip",
    "last-modified": "then",
    "cache-control": "no-store",
    "content-language": "a\r\n b",
    "x-amz-request-id": "1",
    "set-cookie": "secret",
    "x-auth-token": "secret",
    "www-authenticate": "secret",
    "location": "http://elsewhere/?signature=secret",
    "server": "store",
    "etag": '"other"',
}


def head(status: int, part: Slice | None, about: Representation = HERE) -> dict[str, str]:
    found = fields(Decision(status, part), about, STORE)
    assert len({name for name, _ in found}) == len(found)
    assert not [value for _, value in found if "secret" in value or "\n" in value]
    return dict(found)


def test_the_whole() -> None:
    """200: length, tag, digests, and what describes the object; nothing of how it was fetched."""
    found = head(200, WHOLE)
    assert found == {
        "Accept-Ranges": "bytes",
        "ETag": '"a"',
        "Content-Type": "text/plain; charset=x",
        "Content-Encoding": "gzip",
        "Content-Language": "a b",
        "Cache-Control": "no-store",
        "Last-Modified": "then",
        "Content-Length": "6",
        "Repr-Digest": "md5=:AAAAAAAAAAAAAAAAAAAAAA==:",
        "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA==",
    }


def test_a_part() -> None:
    """206: the digest of the whole stays, that of the content cannot."""
    found = head(206, Slice(2, 3))
    assert (found["Content-Range"], found["Content-Length"]) == ("bytes 2-4/6", "3")
    assert "Repr-Digest" in found
    assert "Content-MD5" not in found


def test_heads_without_content() -> None:
    """416 tells the size, 304 the tag and how long to keep it, 412 the tag (RFC 9110 §15.4.5, §15.5.17)."""
    assert head(416, None) == {
        "Accept-Ranges": "bytes",
        "ETag": '"a"',
        "Content-Range": "bytes */6",
        "Content-Length": "0",
    }
    assert head(304, None) == {"Accept-Ranges": "bytes", "ETag": '"a"', "Cache-Control": "no-store"}
    assert head(412, None) == {"Accept-Ranges": "bytes", "ETag": '"a"', "Content-Length": "0"}


def test_without_a_size_or_tag() -> None:
    """What is not known is not told."""
    found = head(200, WHOLE, Representation(weak='W/"w"'))
    assert found["ETag"] == 'W/"w"'
    assert not {"Content-Length", "Repr-Digest", "Content-Range"} & set(found)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("x", 404), 404),
        (Refused("x", 410), 410),
        (Refused("AKIA: secret", 403), 502),
        (Refused("x", 500), 502),
        (Exhausted("x", StoreFault("timeout", "secret")), 504),
        (Exhausted("x", TimeoutError()), 504),
        (Exhausted("x", ConnectionResetError("secret")), 502),
        (Exhausted("x"), 502),
        (Changed("secret"), 502),
        (Integrity("secret"), 502),
        (CallerError("secret"), 400),
    ],
)
def test_refusals(error: Exception, status: int) -> None:
    """A client's fault is a 4xx, the store's a 5xx, and the words tell nothing of how it is reached."""
    found, text = refusal(error)
    assert found == status
    assert "secret" not in text
