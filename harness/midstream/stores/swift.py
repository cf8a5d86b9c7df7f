"""OpenStack Swift, the real one, in one process."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar, Generic, TypeVar, cast

from midstream._parts import Endpoint, attached
from midstream._registry import Availability
from midstream.stores import RunningStore, Store
from midstream.stores._elsewhere import RunningSwiftElsewhere, SwiftLogin
from midstream.stores._starting import own_folder
from midstream.stores._swift import start_server
from midstream.stores._swift_objects import RunningSwift, SwiftStore

KEYS = ("ACCESS_KEY", "SECRET_KEY")  # the user, and the user's key
_T = TypeVar("_T")


class _Ours(Generic[_T]):
    """An attribute of a store that one of somebody else's has less of: it is given whole objects only."""

    def __init__(self, ours: _T, theirs: _T) -> None:
        self._ours, self._theirs = ours, theirs

    def __get__(self, instance: object, owner: type[Store]) -> _T:
        return self._ours if attached(owner.id) is None else self._theirs


class Swift(SwiftStore):
    """The servers as applications of one process; or one that runs already."""

    id: ClassVar[str] = "swift"
    summary: ClassVar[str] = "OpenStack Swift in one process, v1 authentication"
    layouts: ClassVar[tuple[str, ...]] = cast("tuple[str, ...]", _Ours(SwiftStore.layouts, ("plain",)))
    uploads: ClassVar[tuple[str, ...]] = cast("tuple[str, ...]", _Ours(SwiftStore.uploads, ()))
    leftovers: ClassVar[bool] = cast(bool, _Ours(True, False))

    def available(self) -> Availability:
        found = attached(self.id, KEYS, path=True)
        return super().available() if found is None else found.availability()

    def start(self, folder: Path) -> RunningStore:
        if (found := attached(self.id, KEYS, path=True)) is not None:
            endpoint = Endpoint.parse(f"the address of {self.id}", found.require().what, path=True)
            login = SwiftLogin(endpoint.path or "/auth/v1.0", *found.env.values())
            own = own_folder(self.id, folder)
            try:
                return RunningSwiftElsewhere(self.id, endpoint, login, own)
            except BaseException:
                shutil.rmtree(own, ignore_errors=True)
                raise
        server, own, version = start_server(self.id, folder)
        try:
            return RunningSwift(server, own, version)
        except BaseException:
            server.stop()
            shutil.rmtree(own, ignore_errors=True)
            raise


MEMBER = Swift()
