"""The real Glance image API, with its own store drivers and with reknit's, before the same cuts.

Glance runs without Keystone: who asks, and as what, stands in request headers. What is cut is the way from
Glance to its store.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest

from midstream._content import Content
from midstream._parts import find
from midstream._registry import load
from midstream._schedule import Schedule
from midstream.injectors import Plan, Session
from midstream.stores import RunningStore, Traits

HERE = Path(__file__).parent
SIZE = 3 << 20
CONTENT = Content(SIZE, 7)
DATA = b"".join(CONTENT.blocks())
CUTS = ("get_object cut@1048576:rst", "get_object#2 cut@1500000:fin", "get_object#3 cut@100%-1:rst")
WHO = {
    "X-Identity-Status": "Confirmed",
    "X-Roles": "admin,member,reader",
    "X-Project-Id": "p",
    "X-User-Id": "u",
}
CONFIG = """
[DEFAULT]
show_multiple_locations = true
worker_self_reference_url = http://127.0.0.1:1
enabled_import_methods = []
log_file = {folder}/glance.log
node_staging_uri = file://{folder}/staging
[database]
connection = sqlite:///{folder}/images.sqlite
[import_filtering_opts]
allowed_ports = []
allowed_hosts = [127.0.0.1]
disallowed_hosts = []
[paste_deploy]
config_file = {folder}/glance-api-paste.ini
[glance_store]
filesystem_store_datadir = {folder}/images
{store}
"""
# Glance's own file has a pipeline for Keystone and one that knows nobody.
PASTE = """
[pipeline:glance-api]
pipeline = versionnegotiation context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/v2: apiv2app
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
"""


@dataclass
class Glance:
    """A running image API."""

    port: int

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
        """One request; raises http.client.IncompleteRead for a body that is not whole."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/v2/images{path}", body, {**WHO, **named})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def breaks(self, image: str) -> bool:
        """Whether a download fails, before its head or in its body."""
        try:
            return self.ask("GET", f"/{image}/file")[0] >= 500
        except http.client.IncompleteRead:
            return True

    def create(self) -> str:
        """A new image without data; its id."""
        about = json.dumps({"name": "image", "disk_format": "raw", "container_format": "bare"})
        status, body = self.ask("POST", "", about, Content_Type="application/json")
        assert status == 201, body
        return str(json.loads(body)["id"])

    def locate(self, image: str, url: str) -> None:
        """Tell where the image's data is already."""
        change = json.dumps([{"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}])
        status, body = self.ask(
            "PATCH", f"/{image}", change, Content_Type="application/openstack-images-v2.1-json-patch"
        )
        assert status == 200, body


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Any]:
    """Start the image API with the options of a store; it ends with the test."""
    found = find("glance")
    if not found:
        text = f"glance: {found.reason}; {found.hint}"
        (pytest.fail if os.environ.get("MIDSTREAM_CI") else pytest.skip)(text)
    commands = Path(found.what).parent
    # reknit goes in as it is here, with the names of its drivers: nothing is installed for it.
    named = tmp_path / "path" / "midstream-0.dist-info"
    named.mkdir(parents=True)
    (named / "METADATA").write_text("Metadata-Version: 2.1\nName: midstream\nVersion: 0\n")
    (named / "entry_points.txt").write_text(distribution("midstream").read_text("entry_points.txt") or "")
    import reknit

    (tmp_path / "path" / "reknit").symlink_to(Path(reknit.__file__).parent)
    children: list[subprocess.Popen[str]] = []

    def start(store: str) -> Glance:
        (tmp_path / "glance-api.conf").write_text(CONFIG.format(folder=tmp_path, store=store))
        (tmp_path / "glance-api-paste.ini").write_text(PASTE)
        for folder in ("images", "staging"):
            (tmp_path / folder).mkdir()
        env = {**os.environ, "OS_GLANCE_CONFIG_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path / "path")}
        env |= {"PYTHONWARNINGS": "ignore", "no_proxy": "*", "AWS_EC2_METADATA_DISABLED": "true"}
        sync = [str(commands / "glance-manage"), "--config-dir", str(tmp_path), "db_sync"]
        done = subprocess.run(sync, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-1500:]
        with (tmp_path / "log").open("w") as log:
            child = subprocess.Popen(
                [str(commands / "python"), str(HERE / "_glance_api.py")],
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                text=True,
            )
        children.append(child)
        assert child.stdout
        port = next((line for line in child.stdout if line.strip().isdigit()), None)
        assert port, (tmp_path / "log").read_text()[-1500:]
        return Glance(int(port))

    yield start
    for child in children:
        child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


@dataclass
class Stage:
    """A store with the object, and a session before it that cuts."""

    running: RunningStore
    session: Session
    url: str
    bucket: str
    env: dict[str, str]

    def fired(self) -> int:
        """How many of the cuts came about."""
        return sum(event.kind == "fault" for event in self.session.close().events)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Any]:
    """Put the object into a store and open the way to it, with the cuts."""
    ends: list[Any] = []

    def make(name: str) -> Stage:
        store = load("stores", name)
        (tmp_path / "store").mkdir()
        running = store.start(tmp_path / "store")
        ends.append(running.stop)
        running.put("image", CONTENT, Traits())
        injector = load("injectors", "embedded").start()
        ends.append(injector.stop)
        plan = Plan(("127.0.0.1", running.port), Schedule.parse(CUTS), store.operation, SIZE)
        session = injector.open(plan)
        ends.append(session.close)
        access = running.access("image", session.url)
        bucket = access.native.split("/")[2]
        return Stage(running, session, access.url, bucket, dict(access.env))

    yield make
    for end in reversed(ends):
        end()


HTTP = "stores = file,{driver}\ndefault_store = file\n{more}"
S3 = """
stores = {driver}
default_store = s3
s3_store_host = {host}
s3_store_access_key = {key}
s3_store_secret_key = {secret}
s3_store_bucket = {bucket}
s3_store_bucket_url_format = path
{more}
"""
RESUMES = "reknit_backoff_base = 0.005"


def s3_options(place: Stage, driver: str, more: str) -> str:
    env = place.env
    key, secret = env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]
    return S3.format(
        driver=driver, host=place.session.url, bucket=place.bucket, key=key, secret=secret, more=more
    )


def test_an_image_behind_a_url(boot, stage) -> None:
    """Registered by its URL and cut three times on the way to Glance, it is downloaded whole."""
    place = stage("origin")
    glance = boot(HTTP.format(driver="reknit-http", more=RESUMES))
    image = glance.create()
    glance.locate(image, place.url)
    status, data = glance.ask("GET", f"/{image}/file")
    assert (status, hashlib.sha256(data).digest()) == (200, hashlib.sha256(DATA).digest())
    assert place.fired() == len(CUTS)


def test_a_part_of_an_image_behind_a_url(boot, stage) -> None:
    """Glance answers Range with 206 where its driver can read from anywhere, and the cuts do not show."""
    place = stage("origin")
    glance = boot(HTTP.format(driver="reknit-http", more=RESUMES))
    image = glance.create()
    glance.locate(image, place.url)
    status, data = glance.ask("GET", f"/{image}/file", Range="bytes=1000000-2000000")
    assert (status, data == DATA[1000000:2000001]) == (206, True)
    assert place.fired() >= 2


def test_the_same_with_the_driver_of_glance(boot, stage) -> None:
    """The first cut ends the download, and there are no ranges."""
    place = stage("origin")
    glance = boot(HTTP.format(driver="http", more=""))
    image = glance.create()
    glance.locate(image, place.url)
    assert glance.ask("GET", f"/{image}/file", Range="bytes=0-9")[0] == 400
    assert glance.breaks(image)
    assert place.fired() == 1


@pytest.mark.parametrize(("driver", "more"), [("reknit-s3", RESUMES), ("s3", "")])
def test_an_image_uploaded_to_s3(boot, stage, driver: str, more: str) -> None:
    """Uploaded through the API and cut three times on its way back: whole with reknit's driver alone."""
    place = stage("moto")
    glance = boot(s3_options(place, driver, more))
    image = glance.create()
    status, body = glance.ask("PUT", f"/{image}/file", DATA, Content_Type="application/octet-stream")
    assert status == 204, body
    if driver == "reknit-s3":
        assert glance.ask("GET", f"/{image}/file") == (200, DATA)
        assert place.fired() == len(CUTS)
    else:
        assert glance.breaks(image)
        assert place.fired() == 1
