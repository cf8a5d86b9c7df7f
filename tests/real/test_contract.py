"""The real servers keep the contract that ships, but for what they are known to do otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from tests.real.conftest import need

from midstream._content import Content
from midstream._registry import load
from midstream.stores import RunningStore, Store, Traits
from midstream.stores._deviations import DEVIATIONS, REFUSED_RANGES
from midstream.testing.any_store import refuses
from midstream.testing.stores import DEVIATIONS as EMBEDDED
from midstream.testing.stores import StoreContract, fetch


class RealStore(StoreContract):
    """The contract, with the deviations of real servers."""

    @property
    def deviations(self) -> Mapping[str, str]:
        return DEVIATIONS[self.store]

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def needed(request: pytest.FixtureRequest) -> None:
        need(request.cls.store)

    @pytest.mark.parametrize("field", ["bytes=9-5", "bytes=a-b", "lines=0-5"])
    def test_malformed_range(self, running: RunningStore, base: str, key: str, field: str) -> None:
        """A Range that does not read is ignored (RFC 9110 14.2), unless known to be refused."""
        if field not in REFUSED_RANGES.get(self.store, ()):
            super().test_malformed_range(running, base, key, field)
            return
        assert "malformed-range" in self.deviations
        running.put(key, Content(100), Traits())
        assert fetch(running.access(key, base).url, {"Range": field}).status == 416


class TestMinIO(RealStore):
    store = "minio"


class TestVersityGW(RealStore):
    store = "versitygw"


class TestNginx(RealStore):
    store = "nginx"

    @pytest.mark.parametrize("validator", ["strong", "modified", "none"])
    @pytest.mark.parametrize("ranges", [True, False])
    @pytest.mark.parametrize("head", [True, False])
    def test_shown(self, running: RunningStore, key: str, validator: str, ranges: bool, head: bool) -> None:
        """What is asked for is shown, and no more."""
        running.put(key, Content(100), Traits(validator=validator, ranges=ranges, head=head))
        url = running.access(key, f"http://127.0.0.1:{running.port}").url
        reply = fetch(url, {"Range": "bytes=10-19"})
        assert reply.status == (206 if ranges else 200)
        assert reply.body == Content(100).read(10, 10) if ranges else Content(100).whole()
        assert ("etag" in reply.headers) == (validator == "strong")
        assert ("last-modified" in reply.headers) == (validator != "none")
        assert fetch(url, method="HEAD").status == (200 if head else 405)
        info = running.stat(key)
        assert info
        assert info.etag == reply.headers.get("etag")

    @pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/./b", "a\0b"])
    def test_not_a_path(self, running: RunningStore, key: str) -> None:
        """What would lie elsewhere is refused."""
        from midstream._errors import UsageError

        with pytest.raises(UsageError, match="no path"):
            running.put(key, Content(1), Traits())

    def test_file_and_folder(self, running: RunningStore) -> None:
        """A file cannot be a folder too; nothing is left of the attempt."""
        from midstream._errors import UsageError

        running.put("both", Content(1), Traits())
        with pytest.raises(UsageError, match="at once"):
            running.put("both/of them", Content(1), Traits())
        running.put("deep/er", Content(1), Traits())
        with pytest.raises(UsageError, match="at once"):
            running.put("deep", Content(1), Traits())
        running.delete("both")
        running.delete("deep/er")
        assert not {"both", "both/of them", "deep"} & set(running.keys())


class TestSwiftAIO(RealStore):
    store = "swift-aio"


class Elsewhere(StoreContract):
    """A server that runs already: the contract, but that it goes on when the store is stopped."""

    store = "external"
    kind: ClassVar[str]
    server: ClassVar[str]  # the store that plays somebody else's server
    layouts: ClassVar[tuple[str, ...]] = ("plain",)

    @property
    def deviations(self) -> Mapping[str, str]:
        return {**DEVIATIONS, **EMBEDDED}.get(self.server, {})

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """The kind is only known when the server is there."""
        if "layout" in metafunc.fixturenames and "size" not in metafunc.fixturenames:
            if "action" in metafunc.fixturenames:
                pairs = itertools.product(self.layouts, ("same", "delete"))
                metafunc.parametrize(("layout", "action"), list(pairs))
            else:
                metafunc.parametrize("layout", self.layouts)

    @staticmethod
    def settings(server: RunningStore) -> dict[str, str]:
        raise NotImplementedError

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def theirs(
        request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[RunningStore]:
        server = load("stores", request.cls.server).start(tmp_path_factory.mktemp("theirs"))
        with pytest.MonkeyPatch.context() as patch:
            for name in ("URL", "ACCESS_KEY", "SECRET_KEY", "BUCKET"):
                patch.delenv(f"MIDSTREAM_EXTERNAL_{name}", raising=False)
            patch.setenv("MIDSTREAM_EXTERNAL_ALLOW", "1")
            patch.setenv("MIDSTREAM_EXTERNAL_KIND", request.cls.kind)
            for name, value in request.cls.settings(server).items():
                patch.setenv(f"MIDSTREAM_EXTERNAL_{name}", value)
            yield server
        server.stop()

    @pytest.fixture(scope="class")
    @staticmethod
    def member(theirs: RunningStore) -> Store:
        member: Store = load("stores", "external")
        assert member.available().available
        return member

    def test_credentials_work_at_injector(self, running: RunningStore, base: str, key: str) -> None:
        """The address, the store's own form and the credentials are those of a place of our own."""
        running.put(key, Content(100), Traits())
        access = running.access(key, base)
        assert access.kind == self.kind
        assert access.native.endswith(key if self.kind != "http" else access.url)
        assert "midstream-" in access.native

    def test_expired_credentials(self, member: Store, running: RunningStore, base: str, key: str) -> None:
        """Tokens of somebody else's server are left alone."""
        from midstream._errors import UsageError

        with pytest.raises(UsageError):
            running.expire_credentials()

    def test_stop(self, member: Store, theirs: RunningStore, tmp_path: Path) -> None:
        """A store that is stopped leaves nothing there, and the server runs on."""
        before = self.everything(theirs)
        running = member.start(tmp_path)
        for key in ("key", "a/b c"):
            running.put(key, Content(70_000), Traits())
        assert running.alive()
        running.stop()
        running.stop()
        assert not running.alive()
        assert not refuses(theirs.port)
        assert self.everything(theirs) == before
        assert not list(tmp_path.iterdir())

    @staticmethod
    def everything(server: RunningStore) -> list[str]:
        return server.keys()

    def test_others_are_left_alone(self, member: Store, theirs: RunningStore, tmp_path: Path) -> None:
        """What somebody else has there is neither listed nor removed."""
        theirs.put("theirs", Content(10), Traits())
        running = member.start(tmp_path)
        running.put("mine", Content(10), Traits())
        assert running.keys() == ["mine"]
        running.stop()
        assert theirs.read("theirs") == Content(10).whole()

    def test_server_ends(self, member: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A server that ends is told from an object that is not there; what could not be removed is said."""
        from midstream._errors import StoreDied

        server = load("stores", self.server).start(tmp_path / "theirs")
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.settings(server).items():
                patch.setenv(f"MIDSTREAM_EXTERNAL_{name}", value)
            running = member.start(tmp_path / "ours")
        running.put("key", Content(10), Traits())
        server.stop()
        assert not running.alive()
        for ask in (
            lambda: running.stat("key"),
            lambda: running.read("key"),
            lambda: running.keys(),
            lambda: running.delete("key"),
            lambda: running.put("key", Content(10), Traits()),
        ):
            with pytest.raises(StoreDied, match="external"):
                ask()
        running.stop()
        assert "could not be removed" in capsys.readouterr().err


def login(server: RunningStore, key: str) -> dict[str, str]:
    env = server.access("any", f"http://127.0.0.1:{server.port}").env
    names = {"s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "swift": ("ST_USER", "ST_KEY")}[key]
    return dict(zip(("ACCESS_KEY", "SECRET_KEY"), (env[n] for n in names), strict=True))


class TestExternalS3(Elsewhere):
    kind = "s3"
    server = "moto"
    layouts = ("plain", "multipart")

    @staticmethod
    def settings(server: RunningStore) -> dict[str, str]:
        return {"URL": f"http://127.0.0.1:{server.port}", **login(server, "s3")}

    @staticmethod
    def everything(server: RunningStore) -> list[str]:
        from midstream.stores._s3 import RunningS3

        assert isinstance(server, RunningS3)
        return [bucket["Name"] for bucket in server.call(lambda s3: s3.list_buckets())["Buckets"]]


class TestExternalBucket(TestExternalS3):
    """Below a prefix, in a bucket that is given."""

    server = "swift-s3"

    @staticmethod
    def settings(server: RunningStore) -> dict[str, str]:
        return {**TestExternalS3.settings(server), "BUCKET": "midstream"}

    @staticmethod
    def everything(server: RunningStore) -> list[str]:
        return server.keys()


class TestExternalSwift(Elsewhere):
    kind = "swift"
    server = "swift"

    @staticmethod
    def settings(server: RunningStore) -> dict[str, str]:
        return {"URL": f"http://127.0.0.1:{server.port}/auth/v1.0", **login(server, "swift")}


class TestExternalHttp(Elsewhere):
    kind = "http"
    server = "origin"

    @staticmethod
    def settings(server: RunningStore) -> dict[str, str]:
        return {"URL": f"http://127.0.0.1:{server.port}/their/files"}
