"""What becomes of an image when the cluster stops answering anywhere, without a cluster."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from reknit import Options
from reknit._errors import SourceError, StoreFault
from reknit.stores import _rbd_upload, open_uploader, rbd
from reknit.stores._uploader import Small

DATA = bytes(range(256)) * 3000  # three writes
NAME, SNAP = "image", "snap"


class Failed(Exception):
    """What the libraries raise."""

    def __init__(self, number: int) -> None:
        super().__init__(f"[errno {number}] said the library")
        self.errno = number


class NotFound(Failed):
    """rbd.ImageNotFound."""


class Image:
    def __init__(self, own: str, size: int) -> None:
        self.own, self.data = own, bytearray(size)
        self.snaps: dict[str, bytes] = {}
        self.metadata: dict[str, str] = {}
        self.watched: set[int] = set()  # by writers whose connections have broken


class Cluster:
    """Images in memory, as both libraries. The calls in `faults` get no answer, and are done or are not."""

    RBD_FEATURE_LAYERING = 1

    def __init__(self, faults: dict[int, bool]) -> None:
        self.faults, self.calls = faults, itertools.count(1)
        self.images: dict[str, Image] = {}
        self.numbers = itertools.count(1)
        self.open = self.connections = 0
        self.may_fence = True

    def call(self, what: Callable[[], Any]) -> Any:
        done = self.faults.get(number := next(self.calls))
        result = what() if number not in self.faults or done else None
        if number in self.faults:
            raise Failed(errno.ETIMEDOUT)
        return result

    # -- rados

    @contextmanager
    def open_ioctx(self, pool: str) -> Iterator[Any]:
        self.open += 1
        try:
            yield SimpleNamespace()
        finally:
            self.open -= 1

    def shutdown(self) -> None:
        self.open -= 1

    def get_instance_id(self) -> int:
        return self.connections

    def blocklist_add(self, address: str, seconds: int) -> None:
        if not self.may_fence:
            raise Failed(errno.EPERM)
        assert seconds > 30
        for image in self.images.values():
            self.call(lambda image=image: image.watched.discard(int(address)))  # type: ignore[misc]

    def wait_for_latest_osdmap(self) -> None:
        self.call(lambda: None)

    # -- rbd

    def RBD(self) -> Cluster:  # noqa: N802 - as the library calls it
        return self

    def list(self, _: object) -> list[str]:
        found: list[str] = self.call(lambda: list(self.images))
        return found

    def create(self, _: object, name: str, size: int, **__: object) -> None:
        def create() -> None:
            assert name not in self.images
            self.images[name] = Image(str(next(self.numbers)), size)

        self.call(create)

    def rename(self, _: object, name: str, new: str) -> None:
        def rename() -> None:
            assert new not in self.images
            self.images[new] = self.images.pop(name)

        self.call(rename)

    def remove(self, _: object, name: str) -> None:
        if self.images[name].watched or self.images[name].snaps:
            raise Failed(errno.EBUSY)
        self.call(lambda: self.images.pop(name))

    @contextmanager
    def Image(self, _: object, name: str, read_only: bool = False) -> Iterator[Any]:  # noqa: N802
        if name not in self.images:
            raise NotFound(errno.ENOENT)
        image = self.images[name]
        self.call(lambda: None)

        def write(data: bytes, at: int) -> int:
            self.call(lambda: image.data.__setitem__(slice(at, at + len(data)), data))
            return len(data)

        # Whatever changes an image waits for those who watch it.
        assert read_only or not image.watched or not self.may_fence
        try:
            yield SimpleNamespace(
                id=lambda: image.own,
                watchers_list=lambda: [{"id": each, "addr": str(each)} for each in image.watched],
                list_snaps=lambda: [{"name": each} for each in image.snaps],
                write=write,
                flush=lambda: self.call(lambda: None),
                metadata_set=lambda key, value: self.call(lambda: image.metadata.__setitem__(key, value)),
                create_snap=lambda snap: self.call(lambda: image.snaps.__setitem__(snap, bytes(image.data))),
                remove_snap=lambda snap: self.call(lambda: image.snaps.pop(snap)),
            )
        except Failed:
            image.watched |= set() if read_only else {self.connections}
            raise


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    clusters: list[Cluster] = []

    def made(faults: dict[int, bool]) -> tuple[Cluster, _rbd_upload.RbdUploader]:
        cluster = Cluster(faults)
        clusters.append(cluster)

        def connect(_: object) -> Cluster:
            cluster.open += 1
            cluster.connections += 1
            return cluster

        monkeypatch.setattr(rbd, "libraries", lambda: (cluster, cluster))
        monkeypatch.setattr(rbd.RbdStore, "connect", connect)
        uploader = open_uploader(f"rbd://pool/{NAME}@{SNAP}", Options())
        assert isinstance(uploader, _rbd_upload.RbdUploader)
        return cluster, uploader

    yield made
    assert all(cluster.open == 0 for cluster in clusters), "everything that was opened is closed"


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("first", range(1, 12))
@pytest.mark.parametrize("gap", [0, 1, 2, 5])
def test_lost_anywhere_twice(serve: Any, first: int, gap: int, done: bool) -> None:
    """Whichever two calls get no answer, there is one image with its snapshot, whole, and none beside it."""
    faults = {first: done} | ({first + gap: not done} if gap else {})
    cluster, uploader = serve(faults)
    for _ in range(5):
        try:
            assert uploader.put(Small(DATA)).status == 201
            break
        except StoreFault:
            continue
    uploader.close()
    created_unheard = [name for name, image in cluster.images.items() if name != NAME]
    assert not created_unheard
    image = cluster.images[NAME]
    assert image.snaps == {SNAP: DATA}
    assert image.metadata.keys() == {f"reknit.sha256.{SNAP}"}


def test_of_somebody_else(serve: Any) -> None:
    """A name that is taken is refused before anything is made."""
    cluster, uploader = serve({})
    cluster.images[NAME] = Image("theirs", 1)
    assert uploader.put(Small(DATA)).status == 409
    uploader.close()
    assert cluster.images[NAME].own == "theirs"
    assert list(cluster.images) == [NAME]


def test_taken_meanwhile(serve: Any) -> None:
    """Somebody else's image of that name, made while ours was, is not taken for ours, and ours removed."""
    cluster, uploader = serve({4: False})
    with pytest.raises(StoreFault):
        uploader.put(Small(DATA))
    cluster.images[NAME] = Image("theirs", 1)
    assert uploader.put(Small(DATA)).status == 409
    uploader.close()
    assert list(cluster.images) == [NAME]


def test_given_up(serve: Any) -> None:
    """What was begun is removed at the end, with its snapshot; until then its name says what it is."""
    rename = 1 + 2 + 3 + 1 + 1 + 1 + 1
    cluster, uploader = serve({rename: False})
    with pytest.raises(StoreFault):
        uploader.put(Small(DATA))
    (name,) = cluster.images
    assert name.startswith(f".{NAME}.reknit-")
    assert cluster.images[name].snaps
    uploader.close()
    assert not cluster.images


def test_where_nobody_may_be_shut_out(serve: Any) -> None:
    """Another image is made then; the first, which is watched, keeps a name that says what it is."""
    cluster, uploader = serve({6: False})
    cluster.may_fence = False
    with pytest.raises(StoreFault):
        uploader.put(Small(DATA))
    (first,) = cluster.images
    assert cluster.images[first].watched
    assert uploader.put(Small(DATA)).status == 201
    uploader.close()
    assert cluster.images[NAME].snaps == {SNAP: DATA}
    assert set(cluster.images) == {NAME, first}
    assert first.startswith(f".{NAME}.reknit-")


def test_end_of_the_source(serve: Any) -> None:
    """A source that breaks leaves nothing."""

    class Short(Small):
        def blocks(self) -> Iterator[memoryview]:
            yield memoryview(DATA[:600_000])
            raise SourceError("it has shrunk")

    cluster, uploader = serve({})
    with pytest.raises(SourceError):
        uploader.put(Short(DATA))
    uploader.close()
    assert not cluster.images
