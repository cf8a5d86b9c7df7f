"""Uploads of Ceph block devices."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import secrets
from typing import Any

from reknit._errors import CallerError, SourceError
from reknit._upload_events import Shape, Told
from reknit.stores import rbd
from reknit.stores._uploader import Body, UploaderBase

# Seconds that a connection of ours is shut out for: longer than the cluster would count it as there.
_FENCED = 60
# Its making was cut in two, or nobody may be shut out here.
_ANEW = frozenset({errno.ENOENT, errno.EPERM, errno.EACCES})


class RbdUploader(UploaderBase):
    """An image under another name until it is whole and has its snapshot; then it gets its own.

    A name that is taken is refused: images have no replacement that readers would not see half of. The sha256
    stays with the image and proves it to be ours when an answer is lost.

    What a broken connection has begun is gone on with by the next request, in the same image.
    """

    shape = Shape("whole", rbd.RbdStore.dialect)

    def __init__(self, store: rbd.RbdStore, snapshot: str) -> None:
        self._store, self._snapshot = store, snapshot
        self.identity = store.identity
        self._beside = self._own = ""  # name and id of the image that is being made
        self._left: list[str] = []  # names of others that were begun
        self._earlier: list[int] = []  # numbers of the clients that had it open

    def put(self, body: Body) -> Told:
        """Create, write, snapshot, rename."""
        _, librbd = rbd.libraries()
        cluster = self._store.connect()
        try:
            with cluster.open_ioctx(self._store.pool) as ioctx:
                there = librbd.RBD().list(ioctx)
                if self._store.name in there:
                    return self._taken(librbd, ioctx)
                with self._image(cluster, librbd, ioctx, there, body.size) as image:
                    self._own = image.id()
                    # With its snapshot it is whole, though nobody may have heard so.
                    if self._snapshot not in [snap["name"] for snap in image.list_snaps()]:
                        self._fill(image, body)
                librbd.RBD().rename(ioctx, self._beside, self._store.name)
            self._beside = ""
            return Told(201, {})
        except (SourceError, CallerError):
            raise
        except Exception as error:
            answer = rbd.refusal(error)
            return Told(answer.status, answer.headers)
        finally:
            cluster.shutdown()

    def _taken(self, librbd: Any, ioctx: Any) -> Told:
        """The name has an image: ours, if the answer to its renaming was lost."""
        with librbd.Image(ioctx, self._store.name, read_only=True) as image:
            if image.id() == self._own:
                self._beside = ""
                return Told(201, {})
        return Told(409, {"x-reknit-error": f"{self._store.name} is there already"})

    def _image(self, cluster: Any, librbd: Any, ioctx: Any, there: list[str], size: int) -> Any:
        """The image that was begun, or a new one."""
        if self._beside in there:
            try:
                self._fence(cluster, librbd, ioctx, self._beside)
                return self._opened(cluster, librbd, ioctx)
            except Exception as error:
                if getattr(error, "errno", None) not in _ANEW:
                    raise
        if self._beside:
            self._left.append(self._beside)
        self._beside = f".{self._store.name[:60]}.reknit-{secrets.token_hex(4)}"
        # Nothing but layers: what locks and maps an image only asks more of a connection that breaks.
        librbd.RBD().create(ioctx, self._beside, size, old_format=False, features=librbd.RBD_FEATURE_LAYERING)
        return self._opened(cluster, librbd, ioctx)

    def _opened(self, cluster: Any, librbd: Any, ioctx: Any) -> Any:
        self._earlier.append(cluster.get_instance_id())
        return librbd.Image(ioctx, self._beside)

    def _fence(self, cluster: Any, librbd: Any, ioctx: Any, name: str) -> None:
        """Shut out our own earlier connections, as whoever breaks a lock does.

        A writer that went away without a word counts as watching for half a minute: the image cannot be
        removed, and whatever changes it waits for that writer to hear of it. What it still has under way, on
        a network that only stalls, must not arrive behind what is written from now on, either.
        """
        with librbd.Image(ioctx, name, read_only=True) as image:
            watching = [each["addr"] for each in image.watchers_list() if each["id"] in self._earlier]
        for address in watching:
            cluster.blocklist_add(address, _FENCED)
        cluster.wait_for_latest_osdmap()  # from here on whoever serves us knows

    def _fill(self, image: Any, body: Body) -> None:
        digest, at = hashlib.sha256(), 0
        for block in body.blocks():
            digest.update(block)
            for first in range(0, len(block), rbd.READ):
                at += image.write(bytes(block[first : first + rbd.READ]), at)
        image.flush()
        image.metadata_set(f"{rbd.DIGEST}.{self._snapshot}", digest.hexdigest())
        image.create_snap(self._snapshot)

    def close(self) -> None:
        """Remove what was begun, as far as the cluster lets us: what stays is named for what it is."""
        names = [*self._left, self._beside] if self._beside else self._left
        if not names:
            return
        _, librbd = rbd.libraries()
        try:
            cluster = self._store.connect()
        except Exception:
            return
        try:
            with cluster.open_ioctx(self._store.pool) as ioctx:
                for name in names:
                    self._remove(cluster, librbd, ioctx, name)
        except Exception:
            pass
        finally:
            cluster.shutdown()

    def _remove(self, cluster: Any, librbd: Any, ioctx: Any, name: str) -> None:
        with contextlib.suppress(Exception):
            self._fence(cluster, librbd, ioctx, name)
        try:
            with librbd.Image(ioctx, name) as image:
                for snap in image.list_snaps():
                    image.remove_snap(snap["name"])
            librbd.RBD().remove(ioctx, name)
        except Exception:
            pass

    def stat(self) -> Told:
        """Size, validator and digest of the snapshot."""
        head = self._store.stat()
        return Told(head.status, head.headers)
