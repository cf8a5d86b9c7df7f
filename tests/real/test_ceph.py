"""Ceph block devices on a node of our own: the store's contract, and reknit's own store on it."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.conftest import need

import reknit
from midstream._content import Content
from midstream._errors import UsageError
from midstream._registry import load
from midstream.injectors import RunningInjector
from midstream.stores import Access, RunningStore, Store, Traits
from midstream.stores.ceph import RunningCeph
from midstream.testing.raw_stores import RawStoreContract, session


class TestCeph(RawStoreContract):
    """The contract that ships, with Ceph's own command as the client."""

    store = "ceph"

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def needed() -> None:
        need("ceph")

    def fetch(self, access: Access) -> bytes:
        return command(access, "export", "--no-progress", spec_of(access), "-")

    def send(self, access: Access, data: bytes) -> None:
        spec = spec_of(access)
        command(access, "import", "--no-progress", "-", spec.partition("@")[0], data=data)
        command(access, "snap", "create", "--no-progress", spec)

    def strand(self, access: Access, data: bytes) -> None:
        pool, _, name = spec_of(access).partition("@")[0].partition("/")
        command(access, "import", "--no-progress", "-", f"{pool}/{name}.part", data=data)

    def test_name_that_is_too_long(self, running: RunningStore) -> None:
        """A key that no name of an image can hold is refused before anything is made."""
        before = running.keys()
        with pytest.raises(UsageError, match="too long"):
            running.put("ö" * 40, Content(1), Traits())
        assert running.keys() == before


def spec_of(access: Access) -> str:
    """What Ceph's own command calls it."""
    return access.native.removeprefix("rbd://").replace("%25", "%")


def command(access: Access, *arguments: str, data: bytes = b"") -> bytes:
    """What `rbd` prints."""
    limits = ["--rados-osd-op-timeout", "10", "--rados-mon-op-timeout", "10"]
    done = subprocess.run(
        ["rbd", *limits, *arguments],
        env={**os.environ, **access.env},
        input=data,
        stdout=subprocess.PIPE,
        check=True,
    )
    return done.stdout


def test_an_image_without_its_snapshot(
    running: RunningStore, injector: RunningInjector, member: Store
) -> None:
    """It is no object, and an orphan of its name until it has the snapshot."""
    with session(injector, member, running) as (base, _):
        access = running.upload_access("half", base)
        spec = spec_of(access)
        command(access, "import", "--no-progress", "-", spec.partition("@")[0], data=b"x" * 1000)
        assert running.stat("half") is None
        assert [text for text in running.orphans("half") if "without its snapshot" in text]
        command(access, "snap", "create", "--no-progress", spec)
    assert running.orphans("half") == []
    running.clear("half")
    assert running.stat("half") is None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStore]:
    need("ceph")
    running: RunningStore = load("stores", "ceph").start(tmp_path_factory.mktemp("ceph"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def injector() -> Iterator[RunningInjector]:
    started: RunningInjector = load("injectors", "embedded").start()
    yield started
    started.stop()


@pytest.fixture
def member() -> Store:
    member: Store = load("stores", "ceph")
    return member


def options(access: Access, **more: object) -> reknit.Options:
    given: dict[str, object] = {"idle_timeout": 2.0, "connect_timeout": 5.0, "backoff_base": 0.001}
    return reknit.Options(store={"conf": access.env["CEPH_CONF"]}, **{**given, **more})  # type: ignore[arg-type]


def test_snapshot(running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path) -> None:
    """The snapshot that is named is fetched, in the form of this package and in that of Glance."""
    content = Content(300_000, seed=1)
    running.put("snapped", content, Traits())
    with session(injector, member, running) as (base, _):
        access = running.access("snapped", base)
        found = reknit.stat(access.native, options=options(access))
        assert found.size == content.size
        assert found.etag is not None
        fsid = found.etag.strip('"')[:36]
        name, _, snapshot = access.native.rpartition("/")[2].partition("@")
        for url in (access.native, f"rbd://{fsid}/rbd/{name}/{snapshot}"):
            reknit.download(url, tmp_path / "it", options=options(access))
            assert (tmp_path / "it").read_bytes() == content.whole()
        with pytest.raises(reknit.CallerError, match="the cluster is"):
            reknit.stat(f"rbd://{fsid[::-1]}/rbd/{name}/{snapshot}", options=options(access))


def test_image_without_a_snapshot(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """It is read as it is, with nothing that pins it."""
    running.put("bare", Content(300_000), Traits())
    with session(injector, member, running) as (base, _):
        access = running.access("bare", base)
        url = access.native.partition("@")[0]
        assert reknit.stat(url, options=options(access)).etag is None
        reknit.download(url, tmp_path / "it", options=options(access))
    assert (tmp_path / "it").read_bytes() == Content(300_000).whole()


@pytest.mark.parametrize("name", ["none@midstream", "k.there@none"])
def test_missing(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path, name: str
) -> None:
    """An image or a snapshot that is not there is refused."""
    running.put("there", Content(10), Traits())
    with session(injector, member, running) as (base, _):
        access = running.access("there", base)
        for pool in ("rbd", "no-such-pool"):
            with pytest.raises(reknit.Refused) as caught:
                reknit.download(f"rbd://{pool}/{name}", tmp_path / "it", options=options(access))
            assert caught.value.status == 404


def test_silent_daemon(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """librados waits for ever by itself; the inactivity limit ends that, and the rest is fetched."""
    content = Content(2_000_000, seed=3)
    running.put("silent", content, Traits())
    with session(injector, member, running, "TCP stall@wire+900000:forever") as (base, facts):
        access = running.access("silent", base)
        report = reknit.download(access.native, tmp_path / "it", options=options(access, idle_timeout=1.0))
    assert (tmp_path / "it").read_bytes() == content.whole()
    assert (report.resumes, report.restarts) == (1, 0)
    assert len(facts[0].fired) == 1


def test_nobody_there(running: RunningStore, tmp_path: Path) -> None:
    """Where nobody listens at the daemon's port, the limits end each attempt, and the attempts end."""
    running.put("away", Content(10), Traits())
    access = running.access("away", "tcp://127.0.0.1:1")
    short = options(access, idle_timeout=1.0, connect_timeout=1.0, attempts=1)
    with pytest.raises(reknit.Exhausted, match="timeout"):
        reknit.download(access.native, tmp_path / "it", options=short)
    assert not (tmp_path / "it").exists()


def test_removed_while_it_is_read(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """What is removed under the reader reads as zeros; that is noticed, and nothing is published."""
    running.put("removed", Content(9 << 20), Traits())
    with session(injector, member, running) as (base, _):
        access = running.access("removed", base)
        seen: list[int] = []

        def remove(progress: reknit.Progress) -> None:
            if not seen and progress.done > 1 << 20:
                seen.append(progress.done)
                running.delete("removed")

        with pytest.raises(reknit.ReknitError):
            reknit.download(access.native, tmp_path / "it", options=options(access), progress=remove)
    assert seen
    assert not (tmp_path / "it").exists()


def test_part_and_stream(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """A part is exactly its bytes; a reader goes on over cuts."""
    content = Content(5_000_000, seed=4)
    running.put("part", content, Traits())
    faults = ("TCP cut@wire+400000:rst", "TCP cut@wire+900000:fin")
    with session(injector, member, running, *faults) as (base, facts):
        access = running.access("part", base)
        reknit.download(access.native, tmp_path / "it", options=options(access), first=4_194_303, length=3)
        assert (tmp_path / "it").read_bytes() == content.read(4_194_303, 3)
        with reknit.open_stream(access.native, options=options(access)) as stream:
            assert stream.read() == content.whole()
    assert len(facts[0].fired) == 2


@pytest.mark.parametrize("size", [0, 1, 262_145, 9_000_000])
def test_upload(running: RunningStore, injector: RunningInjector, member: Store, size: int) -> None:
    """What is uploaded is there, as Ceph's own command reads it, verified by the digest that went with it."""
    data = Content(size, seed=6).whole()
    with session(injector, member, running) as (base, _):
        access = running.access(f"up {size}", base)
        report = reknit.upload(io.BytesIO(data), access.native, options=options(access))
        assert report.verified == "sha256 (repr-digest)"
        with pytest.raises(reknit.Refused, match="is there already"):
            reknit.upload(io.BytesIO(b"other"), access.native, options=options(access))
    assert running.read(f"up {size}") == data


@pytest.mark.parametrize("at", [200, 1500, 4000, 6000])
def test_upload_over_cuts(running: RunningStore, injector: RunningInjector, member: Store, at: int) -> None:
    """Wherever the answers are cut off, one whole image and nothing beside it."""
    key, data = f"cut up {at}", Content(5_000_000, seed=7).whole()
    with session(injector, member, running, f"TCP cut@wire+{at}:rst") as (base, facts):
        access = running.access(key, base)
        reknit.upload(io.BytesIO(data), access.native, options=options(access))
    assert len(facts[0].fired) == 1
    assert running.read(key) == data
    assert not [name for name in images(running) if "reknit" in name]


def test_upload_that_stalls(running: RunningStore, injector: RunningInjector, member: Store) -> None:
    """A connection that says no more is shut out, and the image gone on with; nothing stays beside it."""
    data = Content(3_000_000, seed=8).whole()
    for at in (1_000_000, 3_010_000):
        key = f"stalled up {at}"
        with session(injector, member, running, f"TCP stall@sent+{at}:forever") as (base, facts):
            access = running.upload_access(key, base)
            reknit.upload(io.BytesIO(data), access.native, options=options(access, idle_timeout=1.0))
        assert len(facts[0].fired) == 1
        assert running.read(key) == data
        assert running.orphans(key) == []


def test_upload_of_a_broken_source(
    running: RunningStore, injector: RunningInjector, member: Store, tmp_path: Path
) -> None:
    """A source that shrinks leaves nothing."""
    path = tmp_path / "source"
    path.write_bytes(bytes(3_000_000))

    def shrink(progress: reknit.Progress) -> None:
        os.truncate(path, 1000)

    with session(injector, member, running) as (base, _):
        access = running.access("shrunk", base)
        with pytest.raises(reknit.SourceError):
            reknit.upload(path, access.native, options=options(access), progress=shrink)
    assert running.stat("shrunk") is None
    assert not [name for name in images(running) if "reknit" in name]


def images(running: RunningStore) -> list[str]:
    """Every image there is, whatever its name."""
    assert isinstance(running, RunningCeph)
    found: list[str] = json.loads(running.command("ls", "--format", "json", "rbd")[0])
    return found
