"""The contract of stores that do not speak HTTP.

    from midstream.testing.raw_stores import RawStoreContract

    class TestMyStore(RawStoreContract):
        store = "my-store"

        def fetch(self, access):  # with the store's usual client, knowing nothing but this
            ...

        def send(self, access, data):  # where it takes uploads
            ...

        def strand(self, access, data):  # what a client leaves there that dies before its object is
            ...

What HTTP stores are asked over the wire is asked here of the store's own client, through an injector that
relays the bytes. What a store is known to do otherwise goes into `deviations`: facet and a sentence with its
source; facets are `replaced` (an object keeps its validator when it is replaced).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from midstream._content import Content
from midstream._errors import UsageError
from midstream._evidence import Facts, fold
from midstream._operations import OPERATIONS
from midstream._registry import load
from midstream._schedule import TCP, Schedule
from midstream.injectors import Plan, RunningInjector
from midstream.stores import LAYOUTS, Access, RunningStore, Store, Traits
from midstream.testing.any_store import AnyStoreContract


@contextmanager
def session(
    injector: RunningInjector, member: Store, running: RunningStore, *faults: str
) -> Iterator[tuple[str, list[Facts]]]:
    """An address of the store through an injector; afterwards the list holds what passed there."""
    plan = Plan(
        running.upstream,
        Schedule.parse(faults),
        member.operation,
        listen_port=running.listen_port,
        raw=True,
        path=running.path,
    )
    opened = injector.open(plan)
    facts: list[Facts] = []
    try:
        yield opened.url, facts
    finally:
        facts.append(fold(opened.close()))


class RawStoreContract(AnyStoreContract):
    """Subclass it, name the `store`, write `fetch`, and pytest collects the tests."""

    deviations: Mapping[str, str] = {}

    @abstractmethod
    def fetch(self, access: Access) -> bytes:
        """The whole object, by the store's usual client."""

    def send(self, access: Access, data: bytes) -> None:
        """Store the object, by the store's usual client."""
        raise NotImplementedError(f"{self.store} takes uploads: write `send`")

    def strand(self, access: Access, data: bytes) -> None:
        """Leave what a client leaves that dies before its object is there."""
        raise NotImplementedError(f"{self.store} takes uploads: write `strand`")

    @pytest.fixture(scope="class")
    @staticmethod
    def injector() -> Iterator[RunningInjector]:
        running: RunningInjector = load("injectors", "embedded").start()
        yield running
        running.stop()

    def test_says_that_it_is_no_http(self, member: Store) -> None:
        """It is raw, of a kind of its own, and no request of it has an operation."""
        assert member.raw
        assert member.kind not in ("http", "s3", "swift")
        assert member.operation(TCP, "/", {}) == "other" in OPERATIONS

    @pytest.mark.parametrize("size", [0, 1, 12_345, 2**20 + 1])
    def test_address_points_at_injector(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str, size: int
    ) -> None:
        """The store's own client gets the object with `native` and `env`, its bytes through the injector."""
        content = Content(size, seed=3)
        running.put(key, content, Traits())
        with session(injector, member, running) as (base, facts):
            access = running.access(key, base)
            assert access.kind == member.kind
            assert access.url == access.native
            assert access.native.startswith(f"{member.kind}://")
            assert self.fetch(access) == content.whole()
        (seen,) = facts
        assert not seen.trouble
        assert sum(e.wire for e in seen.exchanges) > size
        assert {e.method for e in seen.exchanges} == {TCP}

    def test_two_at_once(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str
    ) -> None:
        """Where clients look at one port only, the store says so; elsewhere each session has its own."""
        running.put(key, Content(10), Traits())
        with session(injector, member, running) as (base, _):
            port = urlsplit(base).port
            assert running.listen_port in (0, port)
            if not running.listen_port:
                with session(injector, member, running) as (other, _):
                    assert urlsplit(other).port != port
                    assert self.fetch(running.access(key, other)) == Content(10).whole()
            assert self.fetch(running.access(key, base)) == Content(10).whole()

    def test_out_of_band(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str
    ) -> None:
        """What the harness does with the store leaves no trace at the injector, and does not need one."""
        with session(injector, member, running, f"{TCP}#* cut@wire+0:rst") as (_, facts):
            running.put(key, Content(70_000), Traits())
            assert running.read(key, 5, 10) == Content(70_000).read(5, 10)
            listed = running.keys()
            assert key in listed
            running.delete(key)
        assert facts[0].connections == 0

    def test_missing_object(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str
    ) -> None:
        """What does not exist is None out of band, an error in band, and can be deleted and not be read."""
        assert running.stat(key) is None
        running.delete(key)
        with pytest.raises(UsageError):
            running.read(key)
        with session(injector, member, running) as (base, _), pytest.raises(Exception, match=r"\w"):
            self.fetch(running.access(key, base))

    def test_replaced_object(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str
    ) -> None:
        """Another generation has another validator and its own bytes."""
        seen: list[str | None] = []
        for generation in (1, 2, 3):
            content = Content(1000, seed=6, generation=generation)
            running.put(key, content, Traits())
            info = running.stat(key)
            assert info
            seen.append(info.etag)
            assert running.read(key) == content.whole()
            with session(injector, member, running) as (base, _):
                assert self.fetch(running.access(key, base)) == content.whole()
        assert len(set(seen)) == (1 if "replaced" in self.deviations else 3)

    def test_large_object(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str
    ) -> None:
        """An object of 64 MiB arrives by its address, every byte in its place."""
        content = Content(64 * 2**20, seed=64)
        running.put(key, content, Traits())
        with session(injector, member, running) as (base, _):
            assert self.fetch(running.access(key, base)) == content.whole()
        running.delete(key)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_layout(self, member: Store, running: RunningStore, key: str, layout: str) -> None:
        """What it cannot make is refused with the reason and leaves nothing behind."""
        traits = Traits(layout=layout)
        reason = member.supports(traits)
        assert (reason is None) == (layout in member.layouts)
        if reason:
            with pytest.raises(UsageError, match=layout):
                running.put(key, Content(10), traits)
            assert running.stat(key) is None

    def test_no_tokens(self, running: RunningStore) -> None:
        """There are no tokens that could expire."""
        with pytest.raises(UsageError):
            running.expire_credentials()

    @pytest.mark.parametrize("size", [0, 1, 700_000])
    def test_upload(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str, size: int
    ) -> None:
        """What the store's own client sends through the injector is there, and nothing beside it."""
        self._takes_uploads(member)
        content = Content(size, seed=11)
        with session(injector, member, running) as (base, facts):
            access = running.upload_access(key, base)
            assert (access.kind, access.url) == (member.kind, access.native)
            self.send(access, content.whole())
        assert sum(e.received for e in facts[0].exchanges) > size
        assert running.read(key) == content.whole()
        assert running.orphans(key) == []
        running.clear(key)
        assert running.stat(key) is None

    @pytest.mark.parametrize("existing", [False, True])
    def test_orphans(
        self, member: Store, running: RunningStore, injector: RunningInjector, key: str, existing: bool
    ) -> None:
        """What a client that dies leaves is told of its key and no other, and cleared."""
        self._takes_uploads(member)
        running.put(f"other than {key}", Content(10), Traits())
        if existing:
            running.put(key, Content(5000), Traits())
        with session(injector, member, running) as (base, _):
            self.strand(running.upload_access(key, base), Content(700_000, seed=12).whole())
        assert running.orphans(key)
        assert running.orphans(f"other than {key}") == []
        assert (running.stat(key) is not None) == existing
        if existing:
            assert running.read(key) == Content(5000).whole()
        running.clear(key)
        assert running.orphans(key) == []
        assert running.stat(key) is None
        assert running.read(f"other than {key}") == Content(10).whole()

    @staticmethod
    def _takes_uploads(member: Store) -> None:
        if not member.uploads:
            pytest.skip(f"{member.id} takes no uploads")
