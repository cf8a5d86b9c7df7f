"""glance_store as a driver: one image through a store driver of OpenStack Glance, read as Glance does."""

from __future__ import annotations

import http.server
import importlib.metadata
import importlib.util
import json
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from midstream._registry import Availability
from midstream.drivers import Job, PythonDriver
from midstream.drivers._receiving import receiving


class GlanceDriver(PythonDriver):
    """`entries` are the names of the store drivers in the entry point group, by kind of store."""

    entries: Mapping[str, str]
    parts: bool = True
    streams: bool = True

    def available(self) -> Availability:
        if importlib.util.find_spec("glance_store") is None:
            return Availability(False, "glance_store is not installed", "pip install 'midstream[glance]'")
        return super().available()

    def version(self) -> str:
        try:
            return importlib.metadata.version("glance_store")
        except importlib.metadata.PackageNotFoundError:
            return ""

    def load(self) -> None:
        import boto3  # noqa: F401
        import glance_store._drivers.http
        import glance_store._drivers.s3
        import glance_store._drivers.swift  # noqa: F401

    def download(self, job: Job) -> None:
        with identity(job) as keystone:
            uri, options = _location(job, keystone)
            data, size = self._get(job, uri, options)
            # As Glance: what comes is counted, and compared with what was announced.
            count = 0
            with receiving(job) as sink:
                for block in data:
                    count += len(block)
                    sink.write(block)
                if count != size:
                    raise RuntimeError(f"{count} bytes of {size}")

    def _get(self, job: Job, uri: str, options: Mapping[str, Any]) -> Any:
        import glance_store
        from oslo_config import cfg

        conf = cfg.ConfigOpts()
        glance_store.register_opts(conf)
        conf([], project="midstream", default_config_files=[])
        options = {"stores": [self.entries[job.kind]], "default_store": job.kind, **options}
        options |= {n: v for n, v in self.patience(job).items() if n in conf.glance_store}
        for name, value in options.items():
            conf.set_override(name, value, group="glance_store")
        glance_store.create_stores(conf)
        part: dict[str, int | None] = {}
        if job.first or job.length is not None:
            part = {"offset": job.first, "chunk_size": job.length}
        store = glance_store.get_store_from_scheme(uri.partition(":")[0])
        where = glance_store.location.get_location_from_uri(uri, conf=conf)
        return store.get(where, **part)

    def patience(self, job: Job) -> dict[str, Any]:
        """Options that say how long to wait, where the store driver has such."""
        return {"swift_store_retry_get_count": 5}


def _location(job: Job, keystone: str) -> tuple[str, dict[str, Any]]:
    """The image's location as Glance keeps it, and the options that go with it."""
    env = job.env
    if job.kind == "http":
        return job.url, {}
    if job.kind == "s3":
        endpoint = env["AWS_ENDPOINT_URL"]
        bucket, _, key = job.native.removeprefix("s3://").partition("/")
        return f"s3://{urlsplit(endpoint).netloc}/{bucket}/{key}", {
            "s3_store_host": endpoint,
            "s3_store_region_name": env.get("AWS_DEFAULT_REGION", "us-east-1"),
            "s3_store_access_key": env["AWS_ACCESS_KEY_ID"],
            "s3_store_secret_key": env["AWS_SECRET_ACCESS_KEY"],
            "s3_store_bucket": bucket,
            "s3_store_bucket_url_format": "path",
        }
    path = job.native.removeprefix("swift://")
    where = urlsplit(keystone)
    return f"swift+http://project:user:key@{where.netloc}{where.path}/{path}", {
        "swift_store_auth_version": "3",
        "swift_store_user": "project:user",
        "swift_store_key": "key",
        "swift_store_auth_address": keystone,
    }


@contextmanager
def identity(job: Job) -> Iterator[str]:
    """A stand-in for Keystone v3, which glance_store wants; its tokens are those of the store's own login."""
    if job.kind != "swift":
        yield ""
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Identity)
    server.login = job.env  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Identity(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        links = [{"rel": "self", "href": f"http://{self.headers['Host']}/v3/"}]
        self._say(200, {"version": {"id": "v3.14", "status": "stable", "links": links}}, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        env = self.server.login  # type: ignore[attr-defined]
        names = {"X-Auth-User": env["ST_USER"], "X-Auth-Key": env["ST_KEY"]}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(env["ST_AUTH"], headers=names), timeout=10) as answer:
            url, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
        ends = [{"interface": i, "url": url, "region": "r", "id": i} for i in ("public", "internal", "admin")]
        now = datetime.now(UTC)
        self._say(
            201,
            {
                "token": {
                    "methods": ["password"],
                    "user": {"id": "u", "name": "user", "domain": {"id": "default", "name": "Default"}},
                    "issued_at": now.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
                    "expires_at": (now + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
                    "catalog": [{"type": "object-store", "name": "swift", "id": "s", "endpoints": ends}],
                }
            },
            {"X-Subject-Token": token},
        )

    def _say(self, status: int, document: object, headers: dict[str, str]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
