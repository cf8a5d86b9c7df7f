"""Swift's large objects and S3's multipart ones: what is left of them, and what damage to a segment does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from midstream._content import Content
from midstream._errors import HarnessError, UsageError
from midstream._registry import load
from midstream.stores import RunningStore, Traits
from midstream.stores._swift import SEGMENTS, Api
from midstream.stores._swift_segments import Segment, manifest
from midstream.testing.stores import PART, fetch, holding, rest, seams, sign_in

CONTENT = Content(40_001, seed=1)
KEY = "a/ö b+&=?.bin"


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    yield from started("swift", tmp_path_factory)


@pytest.fixture(scope="module")
def swift_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    yield from started("swift-s3", tmp_path_factory)


def started(name: str, folders: pytest.TempPathFactory) -> Iterator[RunningStore]:
    member = load("stores", name)
    can = member.available()
    if not can.available:
        pytest.skip(f"{name}: {can.reason}; {can.hint}")
    running = member.start(folders.mktemp(name))
    yield running
    running.stop()


def address(running: RunningStore, key: str = KEY) -> str:
    return running.access(key, f"http://127.0.0.1:{running.port}").url


def names(running: RunningStore, container: str) -> list[str]:
    """What is in a container, by Swift's own API."""
    api = Api(running.id, running.port)
    found = api.request("GET", f"{container}?format=json", missing=True)
    api.close()
    return [entry["name"] for entry in found.json()] if found.status_code == 200 else []


def partial(running: RunningStore) -> bytes:
    """The body of a GET, however it ends."""
    with holding(address(running)) as response:
        assert response.status == 200
        return rest(response)


@pytest.mark.parametrize("layout", ["slo", "dlo"])
def test_etag_of_a_large_object(swift: RunningStore, layout: str) -> None:
    """The ETag is the MD5 of the segments' MD5s in hexadecimal, in quotes, and so no digest of the object."""
    swift.put(KEY, CONTENT, Traits(layout=layout))
    starts = [0, *seams(layout, CONTENT.size)]
    each = [hashlib.md5(CONTENT.read(start, 10_001)).hexdigest() for start in starts]
    whole = hashlib.md5("".join(each).encode()).hexdigest()
    assert len(each) == 4
    assert fetch(address(swift)).headers["etag"] == f'"{whole}"'
    assert fetch(address(swift), {"If-Match": f'"{whole}"', "Range": "bytes=1-"}).status == 206
    assert fetch(address(swift), {"If-Match": f'"{each[0]}"', "Range": "bytes=1-"}).status == 412


@pytest.mark.parametrize("layout", ["slo", "dlo"])
def test_no_segment_is_left(swift: RunningStore, layout: str) -> None:
    """A segment goes with its object, whether that is deleted, replaced, or has lost it before."""
    for size, segments in ((40_001, 4), (5, 3), (1, 1)):
        swift.put(KEY, Content(size), Traits(layout=layout))
        assert len(names(swift, SEGMENTS)) == segments
    swift.put(KEY, CONTENT, Traits())
    assert names(swift, SEGMENTS) == []
    swift.put(KEY, CONTENT, Traits(layout=layout))
    swift.lose_segment(KEY)
    assert len(names(swift, SEGMENTS)) == 3
    swift.delete(KEY)
    swift.delete(KEY)
    assert names(swift, SEGMENTS) == []
    with pytest.raises(UsageError, match="has no segments"):
        swift.lose_segment(KEY)


def test_no_part_is_left(swift_s3: RunningStore) -> None:
    """The parts of a multipart object, which s3api keeps as segments, go with the object that is deleted."""
    swift_s3.put(KEY, Content(PART + 1), Traits(layout="multipart"))
    assert len(names(swift_s3, "midstream%2Bsegments")) == 2
    swift_s3.delete(KEY)
    assert names(swift_s3, "midstream%2Bsegments") == []


def test_static_object_loses_a_segment(swift: RunningStore) -> None:
    """It reads up to the seam, where the connection ends; from there it is 409, with the ETag unchanged."""
    swift.put(KEY, CONTENT, Traits(layout="slo"))
    before = swift.stat(KEY)
    swift.lose_segment(KEY)
    swift.lose_segment(KEY)
    assert partial(swift) == CONTENT.read(0, 30_003)
    assert fetch(address(swift), {"Range": "bytes=30_003-"}).status == 409
    assert swift.stat(KEY) == before
    assert swift.read(KEY, 0, 30_003) == CONTENT.read(0, 30_003)
    for start in (0, 30_003):
        with pytest.raises(HarnessError, match="swift: "):
            swift.read(KEY, start)
    assert swift.alive()


def test_dynamic_object_loses_a_segment(swift: RunningStore) -> None:
    """It is shorter without a sign of it other than its ETag."""
    swift.put(KEY, CONTENT, Traits(layout="dlo"))
    before = swift.stat(KEY)
    swift.lose_segment(KEY)
    reply = fetch(address(swift))
    assert (reply.status, reply.body) == (200, CONTENT.read(0, 30_003))
    after = swift.stat(KEY)
    assert before
    assert after
    assert after.size == 30_003
    assert after.etag != before.etag
    assert fetch(address(swift), {"Range": "bytes=30_003-"}).status == 416


@pytest.mark.parametrize("layout", ["slo", "dlo"])
def test_segment_is_changed(swift: RunningStore, layout: str) -> None:
    """The last segment holds those bytes of the next generation; a static object does not give them out."""
    swift.put(KEY, CONTENT, Traits(layout=layout))
    swift.change_segment(KEY)
    last = Content(40_001, seed=1, generation=2).read(30_003, 9_998)
    if layout == "dlo":
        assert fetch(address(swift)).body == CONTENT.read(0, 30_003) + last
        return
    (name,) = [name for name in names(swift, SEGMENTS) if name.endswith("3")]
    api = Api(swift.id, swift.port)
    assert api.request("GET", f"{SEGMENTS}/{name.replace('?', '%3F')}").content == last
    api.close()
    assert partial(swift) == CONTENT.read(0, 30_003)
    assert fetch(address(swift), {"Range": "bytes=30_003-"}).status == 409


def test_small_static_object_loses_a_segment(swift: RunningStore) -> None:
    """What is wrong before 4 KiB are written, which eventlet's server waits for, is answered with 500."""
    swift.put(KEY, Content(4_000), Traits(layout="slo"))
    swift.lose_segment(KEY)
    assert fetch(address(swift)).status == 500


@pytest.mark.parametrize(("layout", "status"), [("slo", 409), ("dlo", 200)])
def test_only_segment_is_lost(swift: RunningStore, layout: str, status: int) -> None:
    """An object that was one segment is a conflict, or nothing at all."""
    swift.put(KEY, Content(1), Traits(layout=layout))
    swift.lose_segment(KEY)
    reply = fetch(address(swift))
    assert reply.status == status
    assert status == 409 or reply.body == b""


def test_token_expires_under_way(swift: RunningStore) -> None:
    """A response that has begun is delivered to its end, by whatever segments, though its token expires."""
    content = Content(2**22, seed=2)
    swift.put(KEY, content, Traits(layout="slo"))
    access = swift.access(KEY, f"http://127.0.0.1:{swift.port}")
    token = {"X-Auth-Token": sign_in(access.env)["x-auth-token"]}
    with holding(access.url, token) as response:
        begun = response.read(1000)
        swift.expire_credentials(access)
        assert begun + rest(response) == content.whole()
    assert fetch(access.url, token).status == 401


def test_accesses_are_different_users(swift: RunningStore) -> None:
    """Accesses that are in use together have users of their own, so that a token can expire for one alone."""
    users = [swift.access(KEY, "http://127.0.0.1:1").env["ST_USER"] for _ in range(16)]
    assert len(set(users)) == 16


def test_only_who_was_told_can_expire_tokens(swift: RunningStore) -> None:
    """The way to expire tokens is not to be guessed."""
    assert fetch(f"http://127.0.0.1:{swift.port}/_control/", method="POST").status >= 400


def test_manifests() -> None:
    """Names are escaped in the header of a dynamic object and not in the manifest of a static one."""
    made = [Segment(f"{SEGMENTS}/a%20b/00000000/0000000{n}", n, 1, f"e{n}") for n in range(2)]
    query, headers, body = manifest("dlo", made)
    assert (query, body) == ("", b"")
    assert headers == {"X-Object-Manifest": f"{SEGMENTS}/a%20b/00000000/"}
    query, headers, body = manifest("slo", made)
    assert (query, headers) == ("?multipart-manifest=put", {})
    assert unquote(body.decode()).count(f'"/{SEGMENTS}/a b/00000000/') == 2
