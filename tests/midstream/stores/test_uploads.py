"""What stores do for uploads: addresses to send to, what uploads leave there, what requests are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from midstream._content import Content
from midstream._operations import OPERATIONS
from midstream._registry import load, members
from midstream.stores import OTHER, UPLOADS, RunningStore, Store, Traits

STORES = ("origin", "moto", "swift", "swift-s3")
PART = 64 * 1024
DATA = Content(3 * PART + 5, 3)


Place = tuple[Store, RunningStore]


@pytest.fixture(scope="module", params=STORES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    member: Store = load("stores", request.param)
    running = member.start(tmp_path_factory.mktemp(request.param))
    yield member, running
    running.stop()


def test_a_plain_put_arrives(place: Place) -> None:
    """The address an uploader is given takes a PUT without credentials."""
    _, running = place
    url = running.upload_access("put a/b c", f"http://127.0.0.1:{running.port}").url
    fields = {"Content-Type": "application/octet-stream"}  # moto takes the form that urllib would say for one
    with urlopen(Request(url, DATA.whole(), fields, method="PUT")) as answer:
        assert answer.status in (200, 201, 204)
    assert running.read("put a/b c") == DATA.whole()
    assert running.orphans("put a/b c") == []
    running.clear("put a/b c")
    assert running.stat("put a/b c") is None


def test_an_object_beside_is_an_orphan(place: Place) -> None:
    """What an uploader leaves under a name of its own making, beginning with the object's, is told."""
    _, running = place
    running.put("beside", DATA, Traits())
    running.put("beside.tmp", DATA, Traits())
    try:
        (stray,) = running.orphans("beside")
        assert "beside.tmp" in stray
    finally:
        running.delete("beside")
        running.delete("beside.tmp")
    assert running.orphans("beside") == []


def test_leftovers_are_found_and_removed(place: Place) -> None:
    """An upload left unfinished is an orphan of its key, and of one it begins with, and of no other."""
    member, running = place
    if not member.leftovers:
        with pytest.raises(Exception, match="unfinished"):
            running.leave("left", DATA, PART)
        return
    for key in ("left", f"left{OTHER}", "elsewhere"):
        running.leave(key, DATA, PART)
    assert len(running.orphans(f"left{OTHER}")) in (1, 3)  # an upload, or three segments
    assert len(running.orphans("left")) == 2 * len(running.orphans(f"left{OTHER}"))
    assert running.stat("left") is None
    running.clear("left")
    assert running.orphans("left") == []
    assert running.orphans("elsewhere")
    running.clear("elsewhere")


def test_parts_of_an_object_are_no_orphans(place: Place) -> None:
    """What an object is made of belongs to it."""
    member, running = place
    for layout in {"multipart", "slo"} & set(member.layouts):
        content = Content(11 << 20 if layout == "multipart" else DATA.size, 4)
        running.put(layout, content, Traits(layout=layout))
        assert running.orphans(layout) == []
        running.clear(layout)
        assert running.stat(layout) is None


def test_what_is_left_to_expire_is_no_orphan(tmp_path: Path) -> None:
    """A segment with X-Delete-At has been seen to."""
    running = load("stores", "swift").start(tmp_path)
    try:
        running.leave("expires", DATA, PART)
        for path in running.orphans("expires"):
            running._api.request("POST", path, {"X-Delete-After": "1000"})
        assert running.orphans("expires") == []
    finally:
        running.stop()


@pytest.mark.parametrize("member", [m for _, m in members("stores")], ids=lambda m: m.id)
def test_stores_say_what_they_take(member: Store) -> None:
    """The ways are known ones; who keeps leftovers, takes parts."""
    assert set(member.uploads) <= set(UPLOADS)
    assert not member.leftovers or member.part_size


S3 = {
    ("PUT", "/midstream/k"): "put_object",
    ("PUT", "/midstream/a/b?X-Amz-Signature=x"): "put_object",
    ("DELETE", "/midstream/k"): "delete_object",
    ("POST", "/midstream/k?uploads"): "create_upload",
    ("POST", "/midstream/k?uploads="): "create_upload",
    ("PUT", "/midstream/k?partNumber=1&uploadId=u"): "upload_part",
    ("PUT", "/midstream/k?uploadId=u&partNumber=1"): "upload_part",
    ("POST", "/midstream/k?uploadId=u"): "complete_upload",
    ("DELETE", "/midstream/k?uploadId=u"): "abort_upload",
    ("GET", "/midstream/k?uploadId=u"): "list_parts",
    ("GET", "/midstream?uploads&prefix=k"): "list_uploads",
    ("PUT", "/midstream"): "other",
    ("PUT", "/midstream/k?acl"): "other",
    ("HEAD", "/midstream/k?uploadId=u"): "other",
}
SWIFT = {
    ("PUT", "/v1/AUTH_a/midstream/k"): "put_object",
    ("PUT", "/v1/AUTH_a/midstream/k?temp_url_sig=x"): "put_object",
    ("PUT", "/v1/AUTH_a/midstream/k?multipart-manifest=put"): "put_manifest",
    ("PUT", "/v1/AUTH_a/midstream_segments/k/1"): "put_segment",
    ("DELETE", "/v1/AUTH_a/midstream_segments/k/1"): "delete_object",
    ("PUT", "/v1/AUTH_a/midstream_segments"): "other",
    ("POST", "/v1/AUTH_a/midstream/k"): "other",
}


@pytest.mark.parametrize(
    ("store", "table"), [("moto", S3), ("minio", S3), ("swift-s3", S3), ("swift", SWIFT)]
)
def test_requests_of_uploads_are_told(store: str, table: dict[tuple[str, str], str]) -> None:
    """Each request of an upload is told by the operation it is."""
    member: Store = load("stores", store)
    assert {(m, t): member.operation(m, t, {}) for m, t in table} == table
    assert set(table.values()) <= set(OPERATIONS)


def test_a_dynamic_manifest_is_one() -> None:
    """It is told by a field."""
    headers = {"x-object-manifest": "c/p"}
    assert load("stores", "swift").operation("PUT", "/v1/AUTH_a/midstream/k", headers) == "put_manifest"
