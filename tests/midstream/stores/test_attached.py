"""Origins and Swifts that somebody else runs: used below a name of our own, and left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from midstream._content import Content
from midstream._errors import SetupError, StoreDied, UsageError
from midstream._processes import ServerProcess
from midstream._registry import load
from midstream.stores import RunningStore, Traits
from midstream.stores._swift import KEY, OWNER
from midstream.testing.stores import fetch

CONTENT = Content(100_003, seed=1)


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server with a secret, named by the environment."""
    words = ["-m", "midstream.stores._origin_server", "--secret", "word"]
    server = ServerProcess("origin", words, tmp_path / "log")
    monkeypatch.setenv("MIDSTREAM_ORIGIN_URL", f"http://127.0.0.1:{server.ready['port']}")
    monkeypatch.setenv("MIDSTREAM_ORIGIN_SECRET_KEY", "word")
    yield server
    server.stop()


def whole(store: RunningStore, key: str) -> bytes:
    return fetch(store.access(key, f"http://127.0.0.1:{store.port}").url).body


def test_origin(origin: ServerProcess, tmp_path: Path) -> None:
    """Two that use one at once see each other's objects as little as those that were there."""
    member = load("stores", "origin")
    assert member.available().how == f"attach http://127.0.0.1:{origin.ready['port']}"
    one, two = member.start(tmp_path), member.start(tmp_path)
    one.put("a b", CONTENT, Traits(validator="weak", framing="chunked"))
    two.put("a b", replace(CONTENT, generation=2), Traits())
    assert whole(one, "a b") == CONTENT.whole() == one.read("a b")
    assert whole(two, "a b") == replace(CONTENT, generation=2).whole()
    assert one.keys() == two.keys() == ["a b"]
    two.stop()
    two.stop()
    assert origin.alive()
    assert one.stat("a b")
    one.delete("a b")
    assert not one.stat("a b")
    one.put("c", CONTENT, Traits())
    one.stop()
    last = member.start(tmp_path)
    assert last._ask("GET", "keys", {}) == b"[]"
    origin.stop()
    assert not last.alive()
    with pytest.raises(StoreDied):
        last.keys()
    last.stop()


def test_origin_with_another_secret(
    origin: ServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is no origin that can be used, and which variable says so is told."""
    monkeypatch.setenv("MIDSTREAM_ORIGIN_SECRET_KEY", "another")
    with pytest.raises(
        SetupError, match=r"no origin of midstream's with that secret; set MIDSTREAM_ORIGIN_SECRET"
    ):
        load("stores", "origin").start(tmp_path)


@pytest.mark.parametrize(("store", "key"), [("origin", "SECRET_KEY"), ("swift", "ACCESS_KEY")])
def test_without_keys(store: str, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address without what belongs to it is no server of the bundled kind either."""
    monkeypatch.setenv(f"MIDSTREAM_{store.upper()}_URL", "http://127.0.0.1:1")
    here = load("stores", store).available()
    assert not here.available
    assert here.hint == f"set MIDSTREAM_{store.upper()}_{key}"
    with pytest.raises(SetupError, match=f"set MIDSTREAM_{store.upper()}_{key}"):
        load("stores", store).start(tmp_path)


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The address at which nobody answers is told."""
    monkeypatch.setenv("MIDSTREAM_ORIGIN_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MIDSTREAM_ORIGIN_SECRET_KEY", "word")
    with pytest.raises(SetupError, match=r"origin: nobody answers at http://127\.0\.0\.1:1"):
        load("stores", "origin").start(tmp_path)


def test_swift(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Plain objects in a container of its own, removed at the end; the six servers are not meant by it."""
    theirs = load("stores", "swift").start(tmp_path)
    try:
        monkeypatch.setenv("MIDSTREAM_SWIFT_URL", f"http://127.0.0.1:{theirs.port}/auth/v1.0")
        monkeypatch.setenv("MIDSTREAM_SWIFT_ACCESS_KEY", OWNER)
        monkeypatch.setenv("MIDSTREAM_SWIFT_SECRET_KEY", KEY)
        member = load("stores", "swift")
        assert member.available().how == f"attach http://127.0.0.1:{theirs.port}/auth/v1.0"
        assert member.supports(Traits()) is None
        assert "not slo" in (member.supports(Traits(layout="slo")) or "")
        assert load("stores", "swift-aio").supports(Traits(layout="slo")) is None
        assert load("stores", "swift-aio").available().how == "bundled"
        ours = member.start(tmp_path)
        ours.put("a b", CONTENT, Traits())
        assert whole(ours, "a b") == CONTENT.whole()
        assert (ours.keys(), theirs.keys()) == (["a b"], [])
        with pytest.raises(UsageError):
            ours.put("c", CONTENT, Traits(layout="dlo"))
        ours.stop()
        assert theirs.alive()
        # Nor is its container among those of the account.
        names = [one["name"] for one in theirs._api.request("GET", "?format=json").json()]
        assert not [name for name in names if name.startswith("midstream-")]
    finally:
        theirs.stop()


def test_nginx_shows_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody else has set up is not asked for what only ours can do."""
    member = load("stores", "nginx")
    assert member.supports(Traits(validator="none")) is None
    monkeypatch.setenv("MIDSTREAM_NGINX_URL", "http://127.0.0.1:1")
    assert member.supports(Traits()) is None
    assert "in its own way only" in (member.supports(Traits(validator="none")) or "")
