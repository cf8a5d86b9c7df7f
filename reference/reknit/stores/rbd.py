"""Ceph block devices: rbd://POOL/IMAGE@SNAPSHOT, or rbd://FSID/POOL/IMAGE/SNAPSHOT as Glance writes it.

Settings in `Options.store`, with the environment variables that stand in for them:

    conf       CEPH_CONF       the usual places without
    user                       admin
    keyring    CEPH_KEYRING
    mon_host                   of the configuration

A snapshot never changes, so its number pins the version. An image without one is read as it is: nothing ties
the bytes of two connections together then, and a transfer that breaks for good begins again.

librados makes lost connections again by itself, and without limits waits for them for ever; `idle_timeout` is
the limit of one read here, `connect_timeout` that of coming to the cluster, both in whole seconds. Uploads
are in _rbd_upload.
"""

from __future__ import annotations

import base64
import errno
import importlib
import importlib.machinery
import importlib.util
import math
import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from reknit._errors import CallerError, StoreFault
from reknit._options import Options
from reknit._representation import Dialect
from reknit.stores._base import Head, Response, pinned, settings
from reknit.stores._uploader import Uploader

SCHEMES = ("rbd",)

_SETTINGS: dict[str, tuple[str, ...]] = {
    "conf": ("CEPH_CONF",),
    "user": (),
    "keyring": ("CEPH_KEYRING",),
    "mon_host": (),
}
# Where Debian puts modules for its own Python, and why a virtual environment does not see them.
_SYSTEM = Path("/usr/lib/python3/dist-packages")
_PACKAGES = "the Debian packages python3-rbd and python3-rados"
# One read of the cluster: what a limit in time holds for, and what is asked for again after it.
READ = 256 << 10

# The name under which an upload leaves the digest of a snapshot with its image.
DIGEST = "reknit.sha256"

_KINDS = {
    errno.ETIMEDOUT: "timeout",
    errno.ECONNREFUSED: "connect",
    errno.ENOTCONN: "reset",
    errno.ESHUTDOWN: "reset",
}
_STATUS = {
    errno.ENOENT: 404,
    errno.EPERM: 403,
    errno.EACCES: 403,
    errno.EEXIST: 409,
    errno.ENOSPC: 507,
    errno.EDQUOT: 507,
    errno.EROFS: 403,
}


class _Opened:
    """An image at a snapshot, and the connection to the cluster it hangs on."""

    def __init__(self, cluster: Any, pool: str, name: str, snapshot: str | None) -> None:
        _, rbd = libraries()
        self._parts: list[Any] = []
        try:
            self._parts.append(cluster.open_ioctx(pool))
            self.image = rbd.Image(self._parts[0], name, snapshot=snapshot, read_only=True)
            self._parts.append(self.image)
            self.head = self._facts(cluster.get_fsid(), snapshot)
        except BaseException:
            self.close()
            raise

    def _facts(self, fsid: str, snapshot: str | None) -> dict[str, str]:
        size, own = self.image.size(), self.image.id()
        if snapshot is None:
            # Its time is written at most once a minute: it may prove a change, never that there was none.
            return {
                "content-length": str(size),
                "etag": f'W/"{own}-{size}-{self.image.modify_timestamp()}"',
            }
        number = next(s["id"] for s in self.image.list_snaps() if s["name"] == snapshot)
        head = {"content-length": str(size), "etag": f'"{fsid}-{own}-{number}"'}
        try:
            digest = bytes.fromhex(self.image.metadata_get(f"{DIGEST}.{snapshot}"))
        except (KeyError, ValueError):
            return head
        return {**head, "repr-digest": f"sha-256=:{base64.b64encode(digest).decode()}:"}

    def close(self) -> None:
        """Close image and pool; the cluster is the caller's."""
        for part in reversed(self._parts):
            part.close()
        self._parts.clear()


class RbdStore:
    """One image. It answers in the words of HTTP, so that one machine judges all stores."""

    dialect = Dialect("If-Match")

    def __init__(self, fsid: str, pool: str, name: str, snapshot: str | None, options: Options) -> None:
        self._fsid, self.pool, self.name, self.snapshot = fsid, pool, name, snapshot
        self._options = options
        self._settings = settings("RBD", options.store, _SETTINGS)
        at = f"@{snapshot}" if snapshot else ""
        self.identity = f"rbd {fsid or self._settings['conf']} {pool}/{name}{at}"

    def stat(self) -> Response:
        """Size and validator."""
        return self._ask(0, None, None, body=False)

    def open_range(self, first: int, last: int | None, etag: str | None) -> Response:
        """200 or 206; 412 when the snapshot is another one, 404 when it is gone."""
        return self._ask(first, last, etag, body=True)

    def renew(self) -> bool:
        """Keys of Ceph do not expire."""
        return False

    def _ask(self, first: int, last: int | None, etag: str | None, *, body: bool) -> Response:
        cluster = self.connect()
        try:
            opened = _Opened(cluster, self.pool, self.name, self.snapshot)
        except Exception as error:
            cluster.shutdown()
            return refusal(error)
        status, head, end = pinned(opened.head, first, last, etag)
        if not body or status in (412, 416):
            opened.close()
            cluster.shutdown()
            return Head(status, head)
        return _Body(status, head, self, cluster, opened, first, end)

    def connect(self) -> Any:
        """A connection of its own for each answer: what a cut has done to one does not reach the next."""
        rados, _ = libraries()
        waits = {
            "rados_osd_op_timeout": _whole(self._options.idle_timeout),
            "rados_mon_op_timeout": _whole(self._options.connect_timeout),
            "client_mount_timeout": _whole(self._options.connect_timeout),
        }
        given = {name: self._settings[name] for name in ("keyring", "mon_host") if self._settings[name]}
        cluster = None
        try:
            cluster = rados.Rados(
                conffile=self._settings["conf"] or rados.Rados.DEFAULT_CONF_FILES,
                rados_id=self._settings["user"] or None,
                conf={**waits, **given},
            )
            cluster.connect()
            fsid = cluster.get_fsid()
        except Exception as error:
            if cluster is None:
                raise CallerError(f"rbd: {error}") from error
            cluster.shutdown()
            raise _fault(error, "connect") from error
        if self._fsid not in ("", fsid):
            cluster.shutdown()
            raise CallerError(f"rbd: the cluster is {fsid}, not {self._fsid}")
        return cluster

    def still(self, cluster: Any, head: Mapping[str, str]) -> bool:
        """Whether what was opened is still there; removed parts of an image read as zeros."""
        opened = _Opened(cluster, self.pool, self.name, self.snapshot)
        opened.close()
        return opened.head["etag"] == head["etag"]


class _Body(Head):
    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        store: RbdStore,
        cluster: Any,
        opened: _Opened,
        first: int,
        end: int,
    ) -> None:
        super().__init__(status, headers)
        self._store, self._cluster, self._opened = store, cluster, opened
        self._at, self._end = first, end

    def read(self, limit: int) -> bytes | memoryview:
        """Bytes at the position; with the last ones the image must still be the one that was opened."""
        size = min(limit, READ, self._end - self._at)
        if not size:
            return b""
        try:
            data: bytes = self._opened.image.read(self._at, size)
            same = self._at + size < self._end or self._store.still(self._cluster, self.headers)
        except Exception as error:
            raise _fault(error) from error
        if len(data) != size or not same:
            raise StoreFault("changed", "changed: the image was removed or written to while it was read")
        self._at += size
        return data

    def close(self) -> None:
        """Close image and connection."""
        self._opened.close()
        self._cluster.shutdown()


def uploader(url: str, options: Options) -> Uploader:
    """The way to store one image. Raises as `connect` does, and for a URL that names no snapshot."""
    from reknit.stores import _rbd_upload  # it needs this module

    store = connect(url, options)
    if store.snapshot is None:
        raise CallerError(f"an upload needs the name of a snapshot (rbd://POOL/IMAGE@SNAPSHOT): {url!r}")
    return _rbd_upload.RbdUploader(store, store.snapshot)


def connect(url: str, options: Options) -> RbdStore:
    """A store for one image. Raises CallerError for a bad URL or setting."""
    parts = urlsplit(url)
    words = [unquote(word) for word in parts.path[1:].split("/")]
    if parts.netloc and len(words) == 3 and all(words):
        return RbdStore(unquote(parts.netloc), words[0], words[1], words[2], options)
    name, _, snapshot = parts.path[1:].partition("@")
    plain = parts.netloc and name and "@" not in parts.netloc + snapshot and len(words) == 1
    if not plain or parts.query or parts.fragment or parts.path.endswith("@"):
        raise CallerError(
            f"not an RBD URL (rbd://POOL/IMAGE@SNAPSHOT or rbd://FSID/POOL/IMAGE/SNAPSHOT): {url!r}"
        )
    return RbdStore("", unquote(parts.netloc), unquote(name), unquote(snapshot) or None, options)


@lru_cache(maxsize=1)
def libraries() -> tuple[Any, Any]:
    """rados and rbd, which no package index has: they are built with Ceph.

    In a virtual environment they are taken from where Debian keeps them, those two and nothing else, if they
    are built for this version of Python: the suffix of an extension says so, and others are not even found.
    """
    return _library("rados"), _library("rbd")


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        pass
    spec = importlib.machinery.PathFinder.find_spec(name, [str(_SYSTEM)])
    if spec is None or spec.loader is None:
        raise CallerError(f"rbd:// needs {_PACKAGES}{_mismatch(name)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise CallerError(f"rbd:// cannot load {_SYSTEM / name}: {error}") from error
    return module


def _mismatch(name: str) -> str:
    """What is there instead of what could be loaded."""
    tags = [re.search(r"\.cpython-(\d)(\d+)", path.name) for path in _SYSTEM.glob(f"{name}.*.so")]
    built = next((f"{tag[1]}.{tag[2]}" for tag in tags if tag), "")
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"; those here are built for Python {built}, and this is {ours}" if built else ""


def _whole(seconds: float) -> str:
    """Ceph takes whole seconds, and 0 for no limit."""
    return str(max(1, math.ceil(seconds)))


def refusal(error: Exception) -> Response:
    """The cluster's word as an answer; raises for what broke on the way, or is a bug."""
    number = getattr(error, "errno", None)
    if number in _STATUS:
        return Head(_STATUS[number], {"x-reknit-error": f"{type(error).__name__}: {error}"})
    raise _fault(error) from error


def _fault(error: Exception, otherwise: str = "protocol") -> Exception:
    """What broke; a bug of ours stays what it is."""
    number = getattr(error, "errno", None)
    if number is None or isinstance(error, (StoreFault, CallerError)):
        return error
    kind = _KINDS.get(number, otherwise)
    return StoreFault(kind, f"{kind}: {type(error).__name__}: {error}")
