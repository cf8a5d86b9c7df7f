"""The RBD store without a cluster: URLs, limits, where its libraries come from, what it calls failures."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reknit import CallerError, Options
from reknit._checksums import offered
from reknit._errors import StoreFault
from reknit.stores import open_store, open_uploader, rbd

DATA = bytes(range(256)) * 4096
FSID = "0b0c1f0e-0000-4000-8000-000000000000"


class Failed(Exception):
    """What the libraries raise."""

    def __init__(self, number: int) -> None:
        super().__init__(f"[errno {number}] said the library")
        self.errno = number


class Ceph:
    """A cluster with one pool, one image and one snapshot, in memory."""

    DEFAULT_CONF_FILES = "the usual places"

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.open = 0
        self.reads: list[tuple[int, int]] = []
        self.fails: dict[str, int] = {}
        self.number, self.own = 4, "10aa"
        self.metadata: dict[str, str] = {}
        self.Rados, self.Image = Handle(self), Handle(self)

    def step(self, name: str) -> None:
        if name in self.fails:
            raise Failed(self.fails[name])

    # -- rados

    def rados(self, **given: Any) -> Ceph:
        self.given = given
        self.open += 1
        return self

    def connect(self) -> None:
        self.step("connect")

    def shutdown(self) -> None:
        self.open -= 1

    def get_fsid(self) -> str:
        return FSID

    def open_ioctx(self, pool: str) -> Any:
        self.step("pool")
        self.open += 1
        return SimpleNamespace(close=self.shutdown, pool=pool)

    # -- rbd

    def image(self, ioctx: Any, name: str, snapshot: str | None, read_only: bool) -> Any:
        assert read_only
        self.step("image")
        self.open += 1
        snaps = [{"name": "other", "id": 1}, {"name": "snap", "id": self.number}]
        return SimpleNamespace(
            close=self.shutdown,
            size=lambda: len(DATA),
            id=lambda: self.own,
            modify_timestamp=lambda: "2026",
            list_snaps=lambda: snaps,
            metadata_get=self.metadata.__getitem__,
            read=self.read,
        )

    def read(self, at: int, size: int) -> bytes:
        self.step("read")
        self.reads.append((at, size))
        return DATA[at : at + size]


class Handle:
    """What stands for a class of a library."""

    DEFAULT_CONF_FILES = "the usual places"

    def __init__(self, ceph: Ceph) -> None:
        self._ceph = ceph

    def __call__(self, *positional: Any, **named: Any) -> Any:
        return self._ceph.image(*positional, **named) if positional else self._ceph.rados(**named)


@pytest.fixture
def ceph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ceph]:
    for name in ("CEPH_CONF", "CEPH_KEYRING"):
        monkeypatch.delenv(name, raising=False)
    ceph = Ceph()
    monkeypatch.setattr(rbd, "libraries", lambda: (ceph, ceph))
    yield ceph
    assert ceph.open == 0, "everything that was opened is closed"


URL = "rbd://pool/image@snap"


def test_reads(ceph: Ceph) -> None:
    """A range comes in reads of at most 256 KiB, exactly its bytes."""
    answer = open_store(URL, Options()).open_range(1000, 900_000, None)
    assert (answer.status, answer.headers["content-range"]) == (206, f"bytes 1000-900000/{len(DATA)}")
    got = b""
    while data := answer.read(1 << 20):
        got += data
    answer.close()
    assert got == DATA[1000:900_001]
    assert max(size for _, size in ceph.reads) == 256 << 10


def test_limits(ceph: Ceph) -> None:
    """Every wait has a limit, in whole seconds and never none."""
    options = Options(idle_timeout=0.5, connect_timeout=7.2, store={"mon_host": "1.2.3.4", "user": "me"})
    open_store(URL, options).stat()
    conf = ceph.given["conf"]
    assert conf["rados_osd_op_timeout"] == "1"
    assert conf["rados_mon_op_timeout"] == conf["client_mount_timeout"] == "8"
    assert conf["mon_host"] == "1.2.3.4"
    assert (ceph.given["rados_id"], ceph.given["conffile"]) == ("me", "the usual places")


def test_validator(ceph: Ceph) -> None:
    """A snapshot's is strong and of this image and snapshot alone; without one there is a weak one."""
    seen = {open_store(URL, Options()).stat().headers["etag"]}
    ceph.number = 5
    seen.add(open_store(URL, Options()).stat().headers["etag"])
    ceph.own = "10bb"
    seen.add(open_store(URL, Options()).stat().headers["etag"])
    assert len(seen) == 3
    assert open_store(URL, Options()).open_range(5, None, min(seen - {max(seen)})).status in (206, 412)
    assert open_store("rbd://pool/image", Options()).stat().headers["etag"].startswith("W/")


def test_digest(ceph: Ceph) -> None:
    """A digest that an upload has left is that of the snapshot it names, and of no other."""
    assert "repr-digest" not in open_store(URL, Options()).stat().headers
    ceph.metadata = {"reknit.sha256.snap": "0a" * 32, "reknit.sha256.other": "0b" * 32}
    head = open_store(URL, Options()).stat().headers
    assert [(d.algorithm, d.value) for d in offered(head, etag_is_md5=False)] == [("sha256", "0a" * 32)]
    assert "repr-digest" not in open_store("rbd://pool/image", Options()).stat().headers
    ceph.metadata = {"reknit.sha256.snap": "no digest"}
    assert "repr-digest" not in open_store(URL, Options()).stat().headers


def test_uploads_need_a_snapshot(ceph: Ceph) -> None:
    """An upload says under which snapshot it can be read."""
    with pytest.raises(CallerError, match="name of a snapshot"):
        open_uploader("rbd://pool/image", Options())
    assert open_uploader(URL, Options()).identity == "rbd  pool/image@snap"


def test_another_snapshot_of_that_name(ceph: Ceph) -> None:
    """A resume under the old validator is told that it is another one."""
    store = open_store(URL, Options())
    tag = store.stat().headers["etag"]
    answer = store.open_range(5, None, tag)
    answer.close()
    assert answer.status == 206
    ceph.number += 1
    assert store.open_range(5, None, tag).status == 412


def test_removed_under_the_reader(ceph: Ceph) -> None:
    """The last bytes are good only if the image is still the same."""
    answer = open_store(URL, Options()).open_range(0, 9, None)
    ceph.own = "another"
    with pytest.raises(StoreFault, match="removed") as caught:
        answer.read(100)
    answer.close()
    assert caught.value.kind == "changed"


@pytest.mark.parametrize(
    ("where", "number", "status"),
    [
        ("pool", errno.ENOENT, 404),
        ("image", errno.ENOENT, 404),
        ("image", errno.EPERM, 403),
        ("pool", errno.EACCES, 403),
    ],
)
def test_refusals(ceph: Ceph, where: str, number: int, status: int) -> None:
    """What is not there, or not ours, is an answer."""
    ceph.fails = {where: number}
    answer = open_store(URL, Options()).open_range(0, None, None)
    assert answer.status == status
    assert "said the library" in answer.headers["x-reknit-error"]


@pytest.mark.parametrize(
    ("where", "number", "kind"),
    [
        ("connect", errno.EIO, "connect"),
        ("connect", errno.ETIMEDOUT, "timeout"),
        ("image", errno.ETIMEDOUT, "timeout"),
        ("pool", errno.ENOTCONN, "reset"),
        ("image", errno.EIO, "protocol"),
    ],
)
def test_failures(ceph: Ceph, where: str, number: int, kind: str) -> None:
    """What broke has its kind, wherever it broke."""
    ceph.fails = {where: number}
    with pytest.raises(StoreFault) as caught:
        open_store(URL, Options()).open_range(0, None, None)
    assert caught.value.kind == kind


def test_failure_in_the_body(ceph: Ceph) -> None:
    """A read that takes too long breaks the body, and everything is closed."""
    answer = open_store(URL, Options()).open_range(0, None, None)
    ceph.fails = {"read": errno.ETIMEDOUT}
    with pytest.raises(StoreFault, match="timeout: Failed"):
        answer.read(10)
    answer.close()


def test_urls(ceph: Ceph) -> None:
    """The form of this package and that of Glance."""
    assert open_store(URL, Options()).identity == "rbd  pool/image@snap"
    assert open_store("rbd://pool/im%2525age", Options()).identity == "rbd  pool/im%25age"
    theirs = open_store(f"rbd://{FSID}/pool/image/snap", Options())
    assert theirs.identity == f"rbd {FSID} pool/image@snap"
    assert theirs.stat().status == 200
    with pytest.raises(CallerError, match=f"the cluster is {FSID}"):
        open_store("rbd://another/pool/image/snap", Options()).stat()


@pytest.mark.parametrize(
    "url",
    [
        "rbd://pool",
        "rbd:///image",
        "rbd://pool/",
        "rbd://pool/a/b",
        "rbd://pool/a@",
        "rbd://pool/a@b@c",
        "rbd://p/a?x=1",
    ],
)
def test_bad_urls(url: str) -> None:
    """What is no image is said before anything is asked."""
    with pytest.raises(CallerError, match="not an RBD URL"):
        open_store(url, Options())


def test_bad_setting() -> None:
    """A setting that there is not is named."""
    with pytest.raises(CallerError, match="unknown RBD setting pool"):
        open_store(URL, Options(store={"pool": "x"}))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setattr(rbd, "_SYSTEM", tmp_path)
    kept = {name: sys.modules.pop(name, None) for name in ("rados", "rbd")}
    rbd.libraries.cache_clear()
    yield tmp_path
    rbd.libraries.cache_clear()
    for name, module in kept.items():
        sys.modules.pop(name, None)
        if module is not None:
            sys.modules[name] = module


def testlibraries_of_the_system(system: Path) -> None:
    """Both are taken from there, and nothing else becomes visible."""
    for name in ("rados", "rbd", "reknit_other"):
        (system / f"{name}.py").write_text("WHAT = __name__\n")
    before = list(sys.path)
    assert [module.WHAT for module in rbd.libraries()] == ["rados", "rbd"]
    assert sys.path == before
    with pytest.raises(ImportError):
        __import__("reknit_other")


def testlibraries_of_another_python(system: Path) -> None:
    """Built for another version, they are not loaded, and the message says for which they are."""
    (system / "rados.cpython-29-x86_64-linux-gnu.so").touch()
    with pytest.raises(
        CallerError, match=r"python3-rbd and python3-rados; those here are built for Python 2\.9"
    ):
        rbd.libraries()


def test_withoutlibraries(system: Path) -> None:
    """What to install is said."""
    with pytest.raises(CallerError, match=r"needs the Debian packages python3-rbd and python3-rados$"):
        open_store(URL, Options()).stat()


def testlibraries_that_do_not_load(system: Path) -> None:
    """A library that is there and broken is named, and does not stay half loaded."""
    (system / "rados.py").write_text("import no_such_module_of_ceph\n")
    with pytest.raises(CallerError, match="cannot load"):
        rbd.libraries()
    assert "rados" not in sys.modules
