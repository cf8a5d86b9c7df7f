"""The Swift store against a small stand-in: logins of both versions, If-Match, and cuts."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import replace

import pytest

from reknit import CallerError, Integrity, Refused, download, open_stream
from reknit.stores import open_store, swift

DATA = bytes(range(256)) * 100
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture(autouse=True)
def no_logins():
    """Each test logs in for itself."""
    swift._logins.clear()
    yield
    swift._logins.clear()


class Cluster:
    """Answers logins and GETs; `tokens` are those it still takes."""

    def __init__(self, origin, say, whole) -> None:
        self.origin, self.say, self.whole = origin, say, whole
        self.logins, self.tokens, self.cuts, self.extra, self.etag = 0, set(), [], "", MD5
        origin.then = self.answer

    def answer(self, asked: str):
        method, path = asked.split()[:2]
        head = {k.lower(): v for k, _, v in (line.partition(": ") for line in asked.split("\r\n")[1:])}
        if path.startswith(("/auth", "/v3")):
            return self.login(method, path, head)
        if head.get("x-auth-token") not in self.tokens:
            return self.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        if head.get("if-match", self.etag).strip('"') != self.etag.strip('"'):
            return self.say(b"HTTP/1.1 412 Changed\r\nContent-Length: 0\r\n\r\n")
        wire = self.whole(DATA, asked, etag=self.etag, extra=self.extra)
        return self.say(wire[: self.cuts.pop(0)] if self.cuts else wire)

    def login(self, method: str, path: str, head: dict[str, str]):
        url = self.origin.url("/v1/AUTH_test")
        if method == "GET" and path.startswith("/v3"):
            links = [{"rel": "self", "href": self.origin.url("/v3/")}]
            return self.reply(
                200, {"version": {"id": "v3.14", "status": "stable", "links": links, "media-types": []}}
            )
        if path == "/auth/v1.0" and (head.get("x-auth-user"), head.get("x-auth-key")) != ("u", "k"):
            return self.reply(401, {})
        self.logins += 1
        token = f"token{self.logins}"
        self.tokens.add(token)
        if path == "/auth/v1.0":
            return self.reply(200, {}, f"X-Storage-Url: {url}\r\nX-Auth-Token: {token}\r\n")
        ends = [
            {"id": i, "interface": i, "region": "r", "region_id": "r", "url": url}
            for i in ("public", "internal")
        ]
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        body = {
            "token": {
                "methods": ["password"],
                "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
                "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}},
                "issued_at": "2024-01-01T00:00:00.000000Z",
                "expires_at": later.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
                "catalog": [{"type": "object-store", "name": "swift", "id": "c", "endpoints": ends}],
            }
        }
        return self.reply(201, body, f"X-Subject-Token: {token}\r\n")

    def reply(self, status: int, body: object, extra: str = ""):
        text = json.dumps(body)
        kind = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n"
        head = f"HTTP/1.1 {status} X\r\n{kind}{extra}\r\n"
        return self.say((head + text).encode())


@pytest.fixture
def cluster(origin, say, whole) -> Cluster:
    return Cluster(origin, say, whole)


@pytest.fixture
def v1(origin, fast):
    return replace(
        fast, store={"auth_url": origin.url("/auth/v1.0"), "user": "u", "key": "k", "auth_version": "1"}
    )


@pytest.fixture
def v3(origin, fast):
    pytest.importorskip("keystoneauth1")
    settings = {"auth_url": origin.url("/v3"), "user": "u", "key": "k", "project": "p"}
    return replace(fast, store=settings)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_cut(cluster, origin, request, tmp_path, version) -> None:
    """The resume is bound by If-Match; one login serves it, and the next download; the tag is an MD5."""
    options = request.getfixturevalue(version)
    cluster.cuts = [5000]
    report = download("swift://box/an object", tmp_path / "dest", options=options)
    assert (tmp_path / "dest").read_bytes() == DATA
    assert (report.verified, report.resumes, cluster.logins) == ("md5 (etag)", 1, 1)
    assert origin.asked[-1].split()[1] == "/v1/AUTH_test/box/an%20object"
    assert f'If-Match: "{MD5}"' in origin.asked[-1]
    download("swift://box/an object", tmp_path / "again", options=options)
    assert cluster.logins == 1


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_token_that_expires_is_renewed(cluster, request, version) -> None:
    """P27, B106: 401 on the resume: log in again, go on at the same byte."""
    options = request.getfixturevalue(version)
    cluster.cuts = [5000]
    with open_stream("swift://box/o", options=options) as stream:
        data = stream.read(100)
        cluster.tokens.clear()
        assert data + stream.readall() == DATA
    assert cluster.logins == 2


def test_wrong_keys_are_refused(cluster, v1, tmp_path) -> None:
    """Once, and by name."""
    with pytest.raises(Refused, match=r"401.*authentication"):
        download("swift://box/o", tmp_path / "dest", options=replace(v1, store={**v1.store, "key": "wrong"}))


def test_a_login_that_breaks_is_retried(cluster, origin, say, v1) -> None:
    """P28: the login is under the same policy as the rest."""
    origin.script = [say(b""), say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")]
    with open_stream("swift://box/o", options=v1) as stream:
        assert stream.readall() == DATA


@pytest.mark.parametrize("kind", ["X-Static-Large-Object: True", "X-Object-Manifest: box/seg"])
def test_large_objects_have_no_digest(cluster, v1, tmp_path, kind) -> None:
    """S5: the tag is made of the segments' tags."""
    cluster.extra, cluster.etag = f"{kind}\r\n", f'"{"0" * 32}"'
    assert download("swift://box/o", tmp_path / "dest", options=v1).verified is None
    cluster.extra = ""
    with pytest.raises(Integrity):
        download("swift://box/o", tmp_path / "dest", options=v1)


def test_a_broken_segment_is_final(cluster, origin, say, v1) -> None:
    """S6: Swift answers 409 at the seam for ever."""
    cluster.cuts = [5000]
    with open_stream("swift://box/o", options=v1) as stream:
        stream.read(10)
        origin.script = [say(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n")]
        with pytest.raises(Refused, match="409"):
            stream.readall()


def test_a_token_and_a_url_are_enough(cluster, origin, fast) -> None:
    """No login when there is nothing to log in with."""
    cluster.tokens.add("given")
    settings = {"storage_url": origin.url("/v1/AUTH_test"), "token": "given"}
    with open_stream("swift://box/o", options=replace(fast, store=settings)) as stream:
        assert stream.readall() == DATA
    url = f"swift+http://127.0.0.1:{origin.port}/v1/AUTH_test/box/o"
    with open_stream(url, options=replace(fast, store={"token": "given"})) as stream:
        assert stream.readall() == DATA
    assert cluster.logins == 0
    cluster.tokens.clear()
    with open_stream(url, options=replace(fast, store={"token": "given"})) as stream, pytest.raises(Refused):
        stream.readall()


@pytest.mark.parametrize(
    ("url", "store"),
    [("swift://box/o", {}), ("swift://box", {"storage_url": "http://x"}), ("swift://box/o", {"usr": "x"})],
)
def test_bad_urls_and_settings(fast, monkeypatch, url, store) -> None:
    """Said before any traffic."""
    for name in ("ST_AUTH", "OS_AUTH_URL", "OS_STORAGE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CallerError):
        open_store(url, replace(fast, store=store))


def test_settings_from_the_environment(cluster, origin, fast, monkeypatch) -> None:
    """The names the swift command uses."""
    for name, value in {"ST_AUTH": origin.url("/auth/v1.0"), "ST_USER": "u", "ST_KEY": "k"}.items():
        monkeypatch.setenv(name, value)
    with open_stream("swift://box/o", options=fast) as stream:
        assert stream.readall() == DATA
