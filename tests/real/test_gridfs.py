"""GridFS over a server of MongoDB's wire protocol: the store's contract, and reknit's own store on it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from tests.real.conftest import need

import reknit
from midstream._content import Content
from midstream._registry import load
from midstream.injectors import RunningInjector
from midstream.stores import Access, RunningStore, Store, Traits
from midstream.testing.raw_stores import RawStoreContract, session


class TestGridFS(RawStoreContract):
    """The contract that ships, with pymongo's own GridFS as the client."""

    store = "gridfs"

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def needed() -> None:
        need("gridfs")

    def fetch(self, access: Access) -> bytes:
        with bucket(access.native) as files:
            data: bytes = files.open_download_stream_by_name(name_of(access.native)).read()
            return data

    def send(self, access: Access, data: bytes) -> None:
        with bucket(access.native) as files:
            files.upload_from_stream(name_of(access.native), data)

    def strand(self, access: Access, data: bytes) -> None:
        with bucket(access.native) as files:
            # By hand: pymongo's stream removes its chunks when it is forgotten.
            files._chunks.insert_one({"files_id": "lost", "n": 0, "data": data[:261_120]})
            files._chunks.insert_one({"files_id": "lost", "n": 1, "data": data[261_120:]})


class bucket:  # noqa: N801 - used like a function
    """pymongo's bucket behind a URL of ours."""

    def __init__(self, url: str) -> None:
        import pymongo

        parts = urlsplit(url)
        self._client: Any = pymongo.MongoClient(parts.hostname, parts.port, directConnection=True)
        self._database = parts.path.split("/")[1]

    def __enter__(self) -> Any:
        from gridfs import GridFSBucket

        return GridFSBucket(self._client[self._database])

    def __exit__(self, *_: object) -> None:
        self._client.close()


def name_of(url: str) -> str:
    return unquote(urlsplit(url).path.split("/")[2])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    need("gridfs")
    running: RunningStore = load("stores", "gridfs").start(tmp_path_factory.mktemp("gridfs"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def injector() -> Iterator[RunningInjector]:
    started: RunningInjector = load("injectors", "embedded").start()
    yield started
    started.stop()


@pytest.fixture
def member() -> Store:
    member: Store = load("stores", "gridfs")
    return member


QUICK = reknit.Options(idle_timeout=2.0, connect_timeout=5.0, backoff_base=0.001, buffer=1 << 19)


def direct(running: RunningStore, key: str) -> str:
    return running.access(key, f"http://127.0.0.1:{running.port}").native


def test_newest_revision(running: RunningStore, tmp_path: Path) -> None:
    """Of several revisions of a name the newest is fetched, and its validator is of that one."""
    url = direct(running, "many")
    with bucket(url) as files:
        for generation in (1, 2):
            files.upload_from_stream("many", Content(1000, generation=generation).whole())
    first = reknit.stat(url)
    reknit.download(url, tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == Content(1000, generation=2).whole()
    with bucket(url) as files:
        files.upload_from_stream("many", Content(1000, generation=3).whole())
    assert reknit.stat(url).etag != first.etag


def test_pinned_revision(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """A revision that was begun is read to its end, though a newer one comes meanwhile."""
    content = Content(3 << 20, seed=1)
    running.put("pinned", content, Traits())
    with session(injector, member, running, "TCP cut@wire+1500000:rst") as (base, facts):
        url = running.access("pinned", base).native

        def add(_: float) -> None:
            with bucket(direct(running, "pinned")) as files:
                files.upload_from_stream("pinned", Content(100, generation=2).whole())

        # The wait before the resume is when the newer one comes.
        options = reknit.Options(idle_timeout=2.0, sleep=add, backoff_base=0.01, buffer=1 << 19)
        report = reknit.download(url, tmp_path / "it", options=options)
    assert (tmp_path / "it").read_bytes() == content.whole()
    assert report.resumes >= 1
    assert report.restarts == 0
    assert [f.spec for f in facts[0].fired] == ["TCP cut@wire+1500000:rst"]


def test_digest_is_verified(running: RunningStore, tmp_path: Path) -> None:
    """A sha256 in the metadata is compared with what arrived; a wrong one fails and publishes nothing."""
    import hashlib

    url, data = direct(running, "digest"), Content(700_000, seed=5).whole()
    with bucket(url) as files:
        files.upload_from_stream("digest", data, metadata={"sha256": hashlib.sha256(data).hexdigest()})
    assert reknit.download(url, tmp_path / "it").verified == "sha256 (repr-digest)"
    with bucket(url) as files:
        files.upload_from_stream("digest", data, metadata={"sha256": "0" * 64})
    with pytest.raises(reknit.Integrity):
        reknit.download(url, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_damaged_file(running: RunningStore, tmp_path: Path) -> None:
    """A chunk that is missing or short is an error that names it, never bytes of another place."""
    url = direct(running, "damaged")
    running.put("damaged", Content(1_000_000), Traits())
    with bucket(url) as files:
        chunks = files._chunks
        found = next(iter(files.find({"filename": "damaged"})))
        chunks.delete_one({"files_id": found._id, "n": 2})
    with pytest.raises(reknit.Exhausted, match="chunk 2 of the file is missing"):
        reknit.download(url, tmp_path / "it", options=QUICK)
    assert not (tmp_path / "it").exists()


@pytest.mark.parametrize(
    ("first", "length"), [(0, 1), (261_119, 2), (261_120, 261_120), (999_999, 1), (7, None)]
)
def test_part(running: RunningStore, tmp_path: Path, first: int, length: int | None) -> None:
    """A part is exactly its bytes, also where chunks meet."""
    content = Content(1_000_000, seed=9)
    running.put("part", content, Traits())
    reknit.download(direct(running, "part"), tmp_path / "it", first=first, length=length)
    wanted = content.read(first, content.size - first if length is None else length)
    assert (tmp_path / "it").read_bytes() == wanted


def test_stream(running: RunningStore, injector: RunningInjector, member: Store) -> None:
    """A reader goes on over three cuts."""
    content = Content(3 << 20, seed=2)
    running.put("stream", content, Traits())
    faults = [
        f"TCP cut@wire+{at}:{end}" for at, end in ((700_000, "rst"), (800_000, "fin"), (900_000, "half"))
    ]
    with (
        session(injector, member, running, *faults) as (base, facts),
        reknit.open_stream(running.access("stream", base).native, options=QUICK) as stream,
    ):
        assert stream.read() == content.whole()
    assert len(facts[0].fired) == 3


def test_nobody_there(tmp_path: Path) -> None:
    """A port without a server is an error after the attempts, that names the connection."""
    options = reknit.Options(connect_timeout=0.2, attempts=1, backoff_base=0.001)
    with pytest.raises(reknit.Exhausted, match="connect: ServerSelectionTimeoutError"):
        reknit.download("gridfs://127.0.0.1:1/db/name", tmp_path / "it", options=options)


def test_missing(running: RunningStore, tmp_path: Path) -> None:
    """A name that no file has is refused, once."""
    with pytest.raises(reknit.Refused, match="no file is called") as caught:
        reknit.download(direct(running, "no such"), tmp_path / "it")
    assert caught.value.status == 404


def files_of(url: str) -> tuple[list[str], int]:
    """The names that are there, and how many chunks no file has."""
    with bucket(url) as files:
        known = {found._id for found in files.find({})}
        orphans = sum(chunk["files_id"] not in known for chunk in files._chunks.find({}, {"files_id": 1}))
        return [found.filename for found in files.find({})], orphans


@pytest.mark.parametrize("size", [0, 1, 261_120, 261_121, 3_000_000])
def test_upload(running: RunningStore, size: int) -> None:
    """What is uploaded is there, as pymongo reads it, verified by the digest that went with it."""
    url, data = direct(running, f"up {size}"), Content(size, seed=6).whole()
    assert reknit.upload(io.BytesIO(data), url, options=QUICK).verified == "sha256 (repr-digest)"
    assert running.read(f"up {size}") == data


@pytest.mark.parametrize("at", [60, 400, 800, 1200, 1500])
@pytest.mark.parametrize("end", ["rst", "fin"])
def test_upload_over_cuts(
    running: RunningStore, injector: RunningInjector, member: Store, at: int, end: str
) -> None:
    """Wherever the answers are cut off: one whole file, once, and no chunk that belongs to none."""
    key, data = f"cut up {at} {end}", Content(1_500_000, seed=7).whole()
    with session(injector, member, running, f"TCP#2 cut@wire+{at}:{end}") as (base, _):
        reknit.upload(io.BytesIO(data), running.access(key, base).native, options=QUICK)
    assert running.read(key) == data
    names, orphans = files_of(direct(running, key))
    assert names.count(key) == 1
    assert orphans == 0


def test_upload_cut_where_the_file_is_made(
    running: RunningStore, injector: RunningInjector, member: Store
) -> None:
    """The request that makes the file of its chunks is cut at every 16th byte: one file, no other chunk."""
    data = Content(600_000, seed=8).whole()
    with session(injector, member, running) as (base, facts):
        reknit.upload(io.BytesIO(data), running.upload_access("made 000", base).native, options=QUICK)
    sent = max(one.received for one in facts[0].exchanges)
    for back in range(1, 480, 16):
        key = f"made {back:03}"
        with session(injector, member, running, f"TCP cut@sent+{sent - back}:rst") as (base, facts):
            reknit.upload(io.BytesIO(data), running.upload_access(key, base).native, options=QUICK)
        assert len(facts[0].fired) == 1
        assert running.read(key) == data
        assert running.orphans(key) == []
        names, _ = files_of(direct(running, key))
        assert names == [key]


def test_upload_of_a_broken_source(running: RunningStore, tmp_path: Path) -> None:
    """A source that shrinks leaves nothing to be seen."""
    path = tmp_path / "source"
    path.write_bytes(bytes(2_000_000))

    def shrink(progress: reknit.Progress) -> None:
        os.truncate(path, 1000)

    with pytest.raises(reknit.SourceError):
        reknit.upload(path, direct(running, "shrunk"), options=QUICK, progress=shrink)
    names, orphans = files_of(direct(running, "shrunk"))
    assert "shrunk" not in names
    assert orphans == 0
