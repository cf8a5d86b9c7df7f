"""What lies between a store and its answer: interim responses, redirects that lead nowhere, TLS, proxies."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace

import pytest

from reknit import CallerError, Exhausted, Integrity, Options, Refused, download, open_stream

DATA = bytes(range(256)) * 40
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
KEYS = {"access_key": "a", "secret_key": "b", "region": "us-east-1"}


def read_all(url: str, options: Options) -> bytes:
    with open_stream(url, options=options) as stream:
        return stream.read() or b""


def urls(origin, fast: Options, scheme: str) -> tuple[str, Options]:
    """One object as plain http and as S3, on the same origin."""
    if scheme == "http":
        return origin.url("/bucket/k"), fast
    pytest.importorskip("boto3")
    return "s3://bucket/k", replace(fast, store={"endpoint_url": origin.url(""), **KEYS})


@pytest.mark.parametrize("scheme", ["http", "s3"])
@pytest.mark.parametrize(
    "interim",
    [HINTS, PROCESSING, HINTS * 2, PROCESSING + HINTS, b"HTTP/1.1 100 Continue\r\n\r\n" + HINTS],
    ids=["103", "102", "103-twice", "102-103", "100-103"],
)
def test_interim_answers_are_skipped(origin, whole, say, fast, scheme, interim) -> None:
    """RFC 9110 §15.2: any number of 1xx before the answer, on the first request and on the resume."""
    url, options = urls(origin, fast, scheme)
    origin.script = [say(interim + whole(DATA)[:-10])]
    origin.then = lambda asked: say(interim + whole(DATA, asked))
    assert read_all(url, options) == DATA
    assert len(origin.asked) == 2


def test_interim_answers_end(origin, say, fast) -> None:
    """P31: a server that has nothing else to say is a failing one."""
    origin.then = lambda asked: say(HINTS * 500, "hold")
    with pytest.raises(Exhausted, match="interim"):
        read_all(origin.url(), replace(fast, attempts=1))


def test_a_cut_after_an_interim_answer(origin, whole, say, fast) -> None:
    """P28: no answer yet is a drop like any other."""
    origin.script = [say(HINTS)]
    origin.then = lambda asked: say(whole(DATA, asked))
    assert read_all(origin.url(), fast) == DATA


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_redirect_without_a_target_is_an_answer(origin, say, fast, scheme, status) -> None:
    """P32: without Location there is nothing to follow and nothing to retry."""
    url, options = urls(origin, fast, scheme)
    origin.then = lambda asked: say(b"HTTP/1.1 %d Hop\r\nContent-Length: 0\r\n\r\n" % status)
    with pytest.raises(Refused) as caught:
        read_all(url, options)
    assert caught.value.status == status
    assert len(origin.asked) == 1


def test_a_target_with_odd_characters(origin, whole, say, fast) -> None:
    """Raw UTF-8 and spaces in a Location are asked for in their quoted form."""
    hop = "HTTP/1.1 302 Hop\r\nLocation: /ü b?x=1&y=%20\r\nContent-Length: 0\r\n\r\n".encode()
    origin.script = [say(hop), say(whole(DATA))]
    assert read_all(origin.url("/ö"), fast) == DATA
    assert [line.split()[1] for line in origin.asked] == ["/%C3%B6", "/%C3%BC%20b?x=1&y=%20"]


def test_a_field_in_two_lines_is_one(origin, whole, say, fast) -> None:
    """RFC 9110 §5.3: and two ranges in one answer are no range."""
    good = whole(DATA, "Range: bytes=10-")
    other = b"\r\nContent-Range: bytes 9-99/100\r\n"
    origin.script = [
        say(whole(DATA)[: -len(DATA) + 10]),
        say(good.replace(b"\r\n", other, 1)),
        say(good.replace(b"\r\n\r\n", other + b"\r\n", 1)),
    ]
    origin.then = lambda asked: say(whole(DATA, asked))
    assert read_all(origin.url(), fast) == DATA
    assert len(origin.asked) == 4


@pytest.fixture(scope="module")
def authority():
    """A certificate authority nobody else knows."""
    return pytest.importorskip("trustme").CA()


@pytest.fixture
def secure(origin, authority):
    """The origin behind TLS."""
    origin.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(origin.tls)
    return origin


@pytest.fixture
def bundle(authority, tmp_path):
    """The authority as a file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture(autouse=True)
def no_names(monkeypatch) -> None:
    """The environment says nothing of its own."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("scheme", ["http", "s3"])
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_of_ones_own(secure, bundle, whole, say, fast, monkeypatch, name, scheme) -> None:
    """A CA named in the environment is believed, a cut over TLS continued."""
    monkeypatch.setenv(name, bundle)
    url, options = urls(secure, fast, scheme)
    secure.script = [say(whole(DATA)[:-10])]
    secure.then = lambda asked: say(whole(DATA, asked))
    assert read_all(url, options) == DATA
    assert len(secure.asked) == 2


def test_an_unknown_authority_is_not_believed(secure, whole, say, fast) -> None:
    """Without the name, no request leaves, and the error says tls."""
    secure.then = lambda asked: say(whole(DATA, asked))
    with pytest.raises(Exhausted, match="tls"):
        read_all(secure.url(), replace(fast, attempts=0))
    assert secure.asked == []


def test_another_host_is_not_believed(secure, bundle, fast, monkeypatch) -> None:
    """The certificate must be of the host that was asked."""
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    with pytest.raises(Exhausted, match="tls"):
        read_all(secure.url().replace("127.0.0.1", "localhost"), replace(fast, attempts=0))


@pytest.mark.parametrize("end", ["fin", "notify"])
@pytest.mark.parametrize("proof", [None, "size", "digest", "other size", "other digest"])
def test_the_end_of_tls_proves_nothing(secure, bundle, say, fast, monkeypatch, tmp_path, end, proof) -> None:
    """P3, P5: a close-delimited body, with close_notify or without, passes by its size or digest alone."""
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    head = b"HTTP/1.1 200 OK\r\n"
    secure.then = lambda asked: say(
        b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n"
        if asked[:4] == "HEAD" and "size" not in (proof or "")
        else head + b"Content-Length: %d\r\n\r\n" % (len(DATA) + 9 * (proof == "other size"))
        if asked[:4] == "HEAD"
        else head + b"\r\n" + DATA,
        end,
    )
    digest = hashlib.sha256(DATA if proof == "digest" else b"").hexdigest()
    options = replace(fast, attempts=1, expect=f"sha256:{digest}" if "digest" in (proof or "") else None)
    if proof in ("size", "digest"):
        download(secure.url(), tmp_path / "dest", options=options)
        assert (tmp_path / "dest").read_bytes() == DATA
        return
    with pytest.raises((Integrity, Exhausted)):
        download(secure.url(), tmp_path / "dest", options=options)
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("end", ["fin", "rst"])
def test_a_cut_inside_tls(secure, bundle, whole, say, fast, monkeypatch, end) -> None:
    """P3: short of its length is short, however it ended."""
    monkeypatch.setenv("SSL_CERT_FILE", bundle)
    secure.script = [say(whole(DATA)[:-10], end)]
    secure.then = lambda asked: say(whole(DATA, asked))
    assert read_all(secure.url(), fast) == DATA


def test_a_proxy_is_used_for_others_alone(origin, other_origin, whole, say, fast, monkeypatch) -> None:
    """The environment's proxy gets the whole URL and its own login; loopback and NO_PROXY go straight."""
    monkeypatch.setenv("http_proxy", other_origin.url("").replace("://", "://user:pass@"))
    monkeypatch.setenv("no_proxy", "direct.invalid")
    origin.then = other_origin.then = lambda asked: say(whole(DATA, asked))
    assert read_all(origin.url("/o"), fast) == DATA
    assert other_origin.asked == []
    assert read_all("http://store.invalid/o?q", fast) == DATA
    assert other_origin.asked[0].startswith("GET http://store.invalid/o?q HTTP/1.1\r\n")
    assert "Host: store.invalid\r\n" in other_origin.asked[0]
    assert "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in other_origin.asked[0]
    with pytest.raises(Exhausted, match="connect"):
        read_all("http://direct.invalid/", replace(fast, attempts=0))
    assert len(other_origin.asked) == 1


def test_a_proxy_is_tunnelled_through(other_origin, say, fast, monkeypatch) -> None:
    """https goes through CONNECT; a proxy that refuses is no answer of the store."""
    monkeypatch.setenv("https_proxy", other_origin.url(""))
    other_origin.then = lambda asked: say(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(Exhausted, match="connect"):
        read_all("https://store.invalid/o", replace(fast, attempts=0))
    assert other_origin.asked[0].startswith("CONNECT store.invalid:443 HTTP/1")


@pytest.mark.parametrize("name", ["Range", "range"])
def test_a_range_of_the_callers_is_no_header(name) -> None:
    """P16: it could not be composed with the resume's."""
    with pytest.raises(CallerError, match="first and length"):
        Options(headers={name: "bytes=1-"})


def test_names_of_headers_have_no_case(origin, whole, say, fast) -> None:
    """P14: the caller's own Accept-Encoding does not stand beside ours."""
    origin.then = lambda asked: say(whole(DATA, asked))
    read_all(origin.url(), replace(fast, headers={"accept-encoding": "gzip", "user-agent": "me"}))
    assert origin.asked[0].lower().count("accept-encoding") == 1
    assert "identity" in origin.asked[0]
    assert "user-agent: me" in origin.asked[0]
