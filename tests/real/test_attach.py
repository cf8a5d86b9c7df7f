"""Parts that run already are attached to, and left as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.real.conftest import need

from midstream._content import Content
from midstream._errors import SetupError
from midstream._parts import find
from midstream._processes import free_port
from midstream._registry import load
from midstream.stores import RunningStore, Traits
from midstream.stores._hosted import launch
from midstream.stores._s3 import RunningS3
from midstream.testing.stores import fetch

DAV = """
daemon off;
master_process off;
pid {own}/pid;
error_log stderr error;
events {{ }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {own}/temp;
  server {{
    listen 127.0.0.1:{{port}};
    location = / {{ return 204; }}
    location / {{ root {own}/files; dav_methods PUT DELETE; create_full_put_path on; }}
  }}
}}
"""


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for part in ("MINIO", "VERSITYGW", "NGINX"):
        monkeypatch.delenv(f"MIDSTREAM_{part}_URL", raising=False)
    return monkeypatch


@pytest.mark.parametrize("store", ["minio", "versitygw"])
def test_s3(store: str, attach: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a bucket of its own, which is gone afterwards."""
    need(store)
    member = load("stores", store)
    theirs = member.start(tmp_path / "theirs")
    try:
        env = theirs.access("x", "http://127.0.0.1:1").env
        prefix = f"MIDSTREAM_{store.upper()}"
        attach.setenv(f"{prefix}_URL", f"http://127.0.0.1:{theirs.port}")
        attach.setenv(f"{prefix}_ACCESS_KEY", env["AWS_ACCESS_KEY_ID"])
        attach.setenv(f"{prefix}_SECRET_KEY", env["AWS_SECRET_ACCESS_KEY"])
        assert member.available().how == f"attach http://127.0.0.1:{theirs.port}"
        ours: RunningS3 = member.start(tmp_path / "ours")
        assert not ours.pid
        content = Content(5 * 2**20 + 1, seed=1)
        ours.put("a b", content, Traits(layout="multipart"))
        assert fetch(ours.access("a b", f"http://127.0.0.1:{ours.port}").url).body == content.whole()
        assert ours.keys() == ["a b"]
        assert theirs.keys() == []
        ours.stop()
        buckets = theirs.call(lambda s3: s3.list_buckets())["Buckets"]
        assert [bucket["Name"] for bucket in buckets] == ["midstream"]
    finally:
        theirs.stop()


def test_nginx(attach: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By PUT and DELETE; an object that is replaced within a second has another ETag."""
    need("nginx")
    own = tmp_path / "own"
    for sub in ("files", "temp"):
        (own / sub).mkdir(parents=True)
    settings = own / "nginx.conf"
    settings.write_text(DAV.format(own=own))
    arguments = ["-p", str(own), "-c", str(settings), "-e", "stderr"]
    server = launch(find("nginx"), own, arguments, {}, "/", settings)
    try:
        attach.setenv("MIDSTREAM_NGINX_URL", f"http://127.0.0.1:{server.ready['port']}")
        running: RunningStore = load("stores", "nginx").start(tmp_path / "ours")
        tags = set()
        for generation in (1, 2, 3):
            content = Content(1000, seed=1, generation=generation)
            running.put("a b/c", content, Traits())
            assert running.read("a b/c") == content.whole()
            info = running.stat("a b/c")
            assert info
            tags.add(info.etag)
        assert len(tags) == 3
        running.stop()
        assert not [p for p in (own / "files").rglob("*") if p.is_file()]
    finally:
        server.stop()


def test_nobody_answers(attach: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Said at the start, with the address."""
    attach.setenv("MIDSTREAM_NGINX_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(SetupError, match="nginx: nobody answers at http://127"):
        load("stores", "nginx").start(tmp_path)
    assert not list(tmp_path.iterdir())
