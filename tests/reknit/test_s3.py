"""The S3 store: against moto for its words, against a scripted origin for the cuts."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from dataclasses import replace

import pytest

from reknit import CallerError, Exhausted, Integrity, Options, Refused, download, open_stream, stat
from reknit.stores import open_store, open_uploader
from reknit.stores.s3 import etag_is_md5

boto3 = pytest.importorskip("boto3")
DATA = bytes(range(256)) * 300
KEYS = {"access_key": "a", "secret_key": "b", "region": "us-east-1"}


@pytest.fixture(scope="module")
def moto():
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto):
    client = boto3.client(
        "s3", endpoint_url=moto, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket="bucket")
    return client


def test_object(bucket, moto, fast, tmp_path) -> None:
    """A key that needs quoting; the strongest digest S3 offers is verified."""
    bucket.put_object(Bucket="bucket", Key="a key/ü", Body=DATA, ChecksumAlgorithm="SHA256")
    options = replace(fast, store={"endpoint_url": moto, **KEYS})
    report = download("s3://bucket/a key/ü", tmp_path / "dest", options=options)
    assert (tmp_path / "dest").read_bytes() == DATA
    assert report.verified == "sha256 (x-amz-checksum-sha256)"
    assert stat("s3://bucket/a key/ü", options=options).size == len(DATA)


def test_multipart_tag_is_no_digest(bucket, moto, fast, tmp_path) -> None:
    """P6, B120: an ETag in -N verifies nothing and still binds."""
    part = b"p" * (5 << 20)
    upload = bucket.create_multipart_upload(Bucket="bucket", Key="mp")["UploadId"]
    tags = [
        bucket.upload_part(Bucket="bucket", Key="mp", UploadId=upload, PartNumber=n, Body=body)["ETag"]
        for n, body in ((1, part), (2, b"end"))
    ]
    parts = {"Parts": [{"PartNumber": n, "ETag": tag} for n, tag in enumerate(tags, 1)]}
    bucket.complete_multipart_upload(Bucket="bucket", Key="mp", UploadId=upload, MultipartUpload=parts)
    options = replace(fast, store={"endpoint_url": moto, **KEYS})
    report = download("s3://bucket/mp", tmp_path / "dest", options=options)
    assert (tmp_path / "dest").read_bytes() == part + b"end"
    assert report.verified is None


def test_ranges_and_conditions(bucket, moto, fast) -> None:
    """206, 412 and 416 arrive as answers, with their heads."""
    bucket.put_object(Bucket="bucket", Key="k", Body=DATA)
    store = open_store("s3://bucket/k", replace(fast, store={"endpoint_url": moto, **KEYS}))
    tag = store.stat().headers["etag"]
    part = store.open_range(10, None, tag)
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 10-{len(DATA) - 1}/{len(DATA)}")
    assert bytes(part.read(4)) == DATA[10:14]
    part.close()
    assert store.open_range(10, None, '"other"').status == 412
    assert store.open_range(len(DATA), None, tag).status == 416


def test_missing(bucket, moto, fast, tmp_path) -> None:
    """The error names the store's code, and nothing is left."""
    options = replace(fast, store={"endpoint_url": moto, **KEYS})
    with pytest.raises(Refused, match="NoSuchKey"):
        download("s3://bucket/none", tmp_path / "dest", options=options)
    assert list(tmp_path.iterdir()) == []


def settings(origin) -> dict[str, str]:
    return {"endpoint_url": origin.url(""), **KEYS}


@pytest.mark.parametrize("end", ["fin", "rst", "hold"])
@pytest.mark.parametrize("at", [0, 1, 40_000])
def test_cut(origin, whole, say, fast, tmp_path, end, at) -> None:
    """B087, L6: the body is continued under If-Match at the exact byte, whatever broke it."""
    wire = whole(DATA)
    origin.script = [say(wire[: len(wire) - len(DATA) + at], end)]
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, idle_timeout=1.0, store=settings(origin))
    report = download("s3://bucket/k", tmp_path / "dest", options=options)
    assert (tmp_path / "dest").read_bytes() == DATA
    assert report.bytes_refetched == 0
    assert origin.asked[1].split()[1] == "/bucket/k"
    if at:
        assert f"Range: bytes={at}-\r\n" in origin.asked[1]
        assert 'If-Match: "a"' in origin.asked[1]
    assert all("Accept-Encoding: identity" in asked for asked in origin.asked)
    assert all("x-amz-checksum-mode: ENABLED" in asked for asked in origin.asked)


VERSION = "x-amz-version-id: v1\r\n"


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_the_version_that_was_begun(bucket, moto, fast, change) -> None:
    """P10: in a versioned bucket what is replaced or deleted meanwhile is still had to its end."""
    bucket.create_bucket(Bucket="versioned")
    enabled = {"Status": "Enabled"}
    bucket.put_bucket_versioning(Bucket="versioned", VersioningConfiguration=enabled)
    bucket.put_object(Bucket="versioned", Key=change, Body=DATA)
    store = open_store(f"s3://versioned/{change}", replace(fast, store={"endpoint_url": moto, **KEYS}))
    first = store.open_range(0, None, None)
    first.close()
    if change == "replaced":
        bucket.put_object(Bucket="versioned", Key=change, Body=b"another")
    else:
        bucket.delete_object(Bucket="versioned", Key=change)
    rest = store.open_range(10, 19, first.headers["etag"])
    assert (rest.status, bytes(rest.read(100))) == (206, DATA[10:20])
    assert store.stat().status == (200 if change == "replaced" else 404)
    assert store.open_range(10, 19, first.headers["etag"]).status == 206


def test_a_resume_names_the_version(origin, whole, say, fast) -> None:
    """The id of the first answer, signed, beside If-Match: the download is one version, whole."""
    origin.script = [say(whole(DATA, extra=VERSION)[:-9])]
    origin.then = lambda asked: say(whole(DATA, asked, extra=VERSION))
    with open_stream("s3://bucket/k", options=replace(fast, store=settings(origin))) as stream:
        assert stream.read() == DATA
    assert [asked.split()[1] for asked in origin.asked] == ["/bucket/k", "/bucket/k?versionId=v1"]
    assert 'If-Match: "a"' in origin.asked[1]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchVersion")])
def test_a_version_that_is_not_to_be_had(origin, whole, say, fast, status, code) -> None:
    """Removed, or not permitted: the object is asked for without it, from then on."""
    origin.script = [say(whole(DATA, extra=VERSION)[:-9]), say(error(status, code))]
    origin.script.append(say(whole(DATA, f"Range: bytes={len(DATA) - 9}-")[:-3]))
    origin.then = lambda asked: say(whole(DATA, asked))
    with open_stream("s3://bucket/k", options=replace(fast, store=settings(origin))) as stream:
        assert stream.read() == DATA
    targets = [asked.split()[1].removeprefix("/bucket/k") for asked in origin.asked]
    assert targets == ["", "?versionId=v1", "", ""]


def test_a_version_without_an_id_of_its_own(origin, whole, say, fast) -> None:
    """`null` is the version of a suspended bucket: it is overwritten, so it pins nothing."""
    origin.script = [say(whole(DATA, extra="x-amz-version-id: null\r\n")[:-9])]
    origin.then = lambda asked: say(whole(DATA, asked))
    with open_stream("s3://bucket/k", options=replace(fast, store=settings(origin))) as stream:
        assert stream.read() == DATA
    assert [asked.split()[1] for asked in origin.asked] == ["/bucket/k", "/bucket/k"]


def signature(asked: str, secret: str) -> str:
    """The signature of a request as it arrived (Signature Version 4)."""
    request, *lines = asked.rstrip().split("\r\n")
    head = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    signed = re.search("SignedHeaders=([^,]+)", head["authorization"])[1].split(";")
    method, path, _ = request.split()
    canonical = [method, path, "", *(f"{name}:{head[name]}" for name in signed), "", ";".join(signed)]
    canonical.append(head["x-amz-content-sha256"])
    date, *scope = re.search("Credential=[^/]+/([^,]+)", head["authorization"])[1].split("/")
    key = b"AWS4" + secret.encode()
    for step in (date, *scope):
        key = hmac.digest(key, step.encode(), "sha256")
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", head["x-amz-date"], "/".join([date, *scope]), hashed])
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize("token", ["", "t/o+k=en"])
@pytest.mark.parametrize("through", ["", "client"])
def test_what_is_sent_is_what_was_signed(origin, whole, say, fast, through, token) -> None:
    """First request, resume and HEAD; a key that needs quoting; whatever botocore adds of its own."""
    origin.script = [say(whole(DATA)[:-9])]
    origin.then = lambda asked: say(whole(DATA, asked))
    # `auto` leaves it to a client how to address the bucket: by path, as the endpoint is a number.
    more = {"addressing": "auto"} if through else {}
    options = replace(fast, store={**settings(origin), "session_token": token, **more})
    with open_stream("s3://bucket/a key/ü+%25", options=options) as stream:
        assert stream.read() == DATA
    stat("s3://bucket/a key/ü+%25", options=options)
    assert len(origin.asked) == 3
    for asked in origin.asked:
        assert f"Signature={signature(asked, 'b')}\r\n" in asked
        assert f"x-amz-security-token: {token}\r\n" in asked.lower() or not token


def test_one_client_for_every_endpoint(origin, other_origin, whole, say, fast) -> None:
    """A new endpoint costs no new client, and gets its own requests."""
    origin.then = other_origin.then = lambda asked: say(whole(DATA, asked))
    ways = [{**settings(o), "addressing": "auto"} for o in (origin, other_origin)]
    stores = [open_store("s3://bucket/k", replace(fast, store=way)) for way in ways]
    for store in stores:
        store.open_range(0, None, None).close()
    assert stores[0]._client() is stores[1]._client()
    assert len(origin.asked) == len(other_origin.asked) == 1


def test_a_bucket_elsewhere(origin, whole, say, fast) -> None:
    """The answer names the bucket's region: the request is signed for it and sent once more."""
    moved = b"HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"
    origin.script = [say(moved), say(whole(DATA))]
    with open_stream("s3://bucket/k", options=replace(fast, store=settings(origin))) as stream:
        assert stream.read() == DATA
    assert "/us-east-1/s3/" in origin.asked[0]
    assert "/eu-west-1/s3/" in origin.asked[1]
    origin.asked.clear()
    origin.then = lambda asked: say(moved)
    with pytest.raises(Refused, match="301"):
        stat("s3://bucket/k", options=replace(fast, store=settings(origin)))
    assert len(origin.asked) == 2


def test_redirects_are_not_followed(origin, say, fast) -> None:
    """A signature is good for one host: the 307 is the answer."""
    origin.then = lambda asked: say(
        b"HTTP/1.1 307 Hop\r\nLocation: /other/k\r\nContent-Length: 0\r\n\r\n", "keep"
    )
    with pytest.raises(Refused, match="307"):
        stat("s3://bucket/k", options=replace(fast, store=settings(origin)))
    assert len(origin.asked) == 1


def error(status: int, code: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return b"HTTP/1.1 %d E\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def test_throttling_is_retried_here_and_only_here(origin, whole, say, fast) -> None:
    """P30, S10: botocore's own retries are off."""
    origin.script = [say(error(503, "SlowDown")), say(error(500, "InternalError"))]
    origin.script.append(say(whole(DATA, extra="Connection: close\r\n")))
    with open_stream("s3://bucket/k", options=replace(fast, store=settings(origin))) as stream:
        assert stream.read() == DATA
    origin.then = lambda asked: say(error(503, "SlowDown"))
    origin.asked.clear()
    with (
        pytest.raises(Exhausted, match="SlowDown"),
        open_stream("s3://bucket/k", options=replace(fast, attempts=2, store=settings(origin))) as stream,
    ):
        stream.read()
    assert len(origin.asked) == 3


def test_an_expired_token_is_renewed(origin, whole, say, fast) -> None:
    """P27, S9: ExpiredToken is a 400 that means 401; the new keys sign the resume."""
    wire = whole(DATA)
    origin.script = [say(wire[:-9]), say(error(400, "ExpiredToken"))]
    origin.then = lambda asked: say(whole(DATA, asked))
    options = replace(fast, store=settings(origin), renew=lambda: {"access_key": "fresh", "secret_key": "s"})
    with open_stream("s3://bucket/k", options=options) as stream:
        assert stream.read() == DATA
    assert "Credential=fresh/" in origin.asked[2]


def test_botocore_does_not_verify_before_us(origin, whole, say, fast, tmp_path) -> None:
    """A wrong checksum is our Integrity, after one clean start."""
    origin.then = lambda asked: say(whole(DATA, asked, extra="x-amz-checksum-crc32: AAAAAA==\r\n"))
    with pytest.raises(Integrity, match="crc32"):
        download("s3://bucket/k", tmp_path / "dest", options=replace(fast, store=settings(origin)))
    assert len(origin.asked) == 2
    assert list(tmp_path.iterdir()) == []


def test_encrypted_tags_are_no_digests() -> None:
    """P6: KMS and customer keys."""
    assert etag_is_md5({})
    assert etag_is_md5({"x-amz-server-side-encryption": "AES256"})
    assert not etag_is_md5({"x-amz-server-side-encryption": "aws:kms"})
    assert not etag_is_md5({"x-amz-server-side-encryption-customer-algorithm": "AES256"})


@pytest.mark.parametrize("url", ["s3://", "s3://bucket", "s3://bucket/"])
def test_bad_urls(fast, url) -> None:
    """A bucket and a key, or nothing."""
    with pytest.raises(CallerError):
        open_store(url, fast)


def test_bad_settings(fast) -> None:
    """Unknown names are told, with the known ones."""
    with pytest.raises(CallerError, match="endpoint_url"):
        open_store("s3://b/k", replace(fast, store={"endpoint": "x"}))
    with pytest.raises(CallerError):
        open_store("s3://b/k", replace(fast, store={"endpoint_url": "not a url", **KEYS}))


def test_least_part() -> None:
    """A store that takes smaller parts than Amazon's is given them; what is no number is said."""
    given = {"endpoint_url": "http://127.0.0.1:1", "access_key": "a", "secret_key": "b"}
    usual, small = (
        open_uploader("s3://b/k", Options(store={**given, **more})) for more in ({}, {"least_part": "65536"})
    )
    assert (usual.shape.least, small.shape.least) == (5 << 20, 65536)
    with pytest.raises(CallerError, match="least_part is a number of bytes, not 'x'"):
        open_uploader("s3://b/k", Options(store={**given, "least_part": "x"}))
