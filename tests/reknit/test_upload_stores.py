"""Uploads against real stores: moto, Swift, and Swift's S3 API.

Each request fails once, before or after it was carried out; processes are killed; leftovers are found again.
What the store has then is read by other means.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from reknit import CallerError, Exhausted, Options, Refused, SinkError, download, upload
from reknit._errors import StoreFault
from reknit._source import open_source
from reknit._upload import Run
from reknit._upload_journal import records
from reknit.stores import open_uploader
from reknit.stores._lines import Got
from reknit.stores._s3_upload import S3Uploader
from reknit.stores.s3 import connect

PART = 5 << 20
DATA = b"".join(hashlib.sha256(n.to_bytes(4)).digest() for n in range((2 * PART + 1000) // 32))


@dataclass
class Place:
    """A store to upload to, and how to look into it behind the client's back."""

    name: str
    url: str
    options: Options
    read: Callable[[], bytes | None]
    leftovers: Callable[[], list[str]]
    """Uploads under way, or segments that are stored."""
    stop: Callable[[], None]
    delete: Callable[[], None]


def _s3(name: str, endpoint: str, keys: dict[str, str], bucket: str, stop: Callable[[], None]) -> Place:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys["access_key"],
        aws_secret_access_key=keys["secret_key"],
        region_name="us-east-1",
    )
    if name == "moto":
        client.create_bucket(Bucket=bucket)

    def read() -> bytes | None:
        try:
            return client.get_object(Bucket=bucket, Key="a key/ü")["Body"].read()
        except client.exceptions.NoSuchKey:
            return None

    def leftovers() -> list[str]:
        return [one["UploadId"] for one in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    def delete() -> None:
        client.delete_object(Bucket=bucket, Key="a key/ü")
        for upload_id in leftovers():
            client.abort_multipart_upload(Bucket=bucket, Key="a key/ü", UploadId=upload_id)

    options = Options(store={"endpoint_url": endpoint, "region": "us-east-1", **keys})
    return Place(name, f"s3://{bucket}/a key/ü", options, read, leftovers, stop, delete)


def _moto(tmp: Path) -> Place:
    server_module = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return _s3("moto", f"http://{host}:{port}", {"access_key": "a", "secret_key": "b"}, "bucket", server.stop)


def _swift_s3(tmp: Path) -> Place:
    store = pytest.importorskip("midstream.stores.swift_s3").MEMBER
    if not store.available().available:
        pytest.skip(store.available().reason)
    running = store.start(tmp)
    access = running.access("k", f"http://127.0.0.1:{running.port}")
    keys = {"access_key": access.env["AWS_ACCESS_KEY_ID"], "secret_key": access.env["AWS_SECRET_ACCESS_KEY"]}
    return _s3("swift-s3", access.env["AWS_ENDPOINT_URL"], keys, "midstream", running.stop)


def _swift(tmp: Path) -> Place:
    store = pytest.importorskip("midstream.stores.swift").MEMBER
    if not store.available().available:
        pytest.skip(store.available().reason)
    running = store.start(tmp)
    access = running.access("a key/ü", f"http://127.0.0.1:{running.port}")
    env = access.env
    options = Options(store={"auth_url": env["ST_AUTH"], "user": env["ST_USER"], "key": env["ST_KEY"]})

    def read() -> bytes | None:
        return running.read("a key/ü") if running.stat("a key/ü") else None

    def leftovers() -> list[str]:
        uploader = open_uploader(access.native, options)
        url, private = uploader._store.reach()
        got = uploader._lines.ask("GET", f"{url}/midstream_segments", {}, private)
        return got.content.decode().split("\n")[:-1] if got.status == 200 else []

    def delete() -> None:
        uploader = open_uploader(access.native, options)
        uploader._ask("DELETE", uploader._store.path + "?multipart-manifest=delete")
        uploader._ask("DELETE", uploader._store.path)  # one that is no manifest
        for name in leftovers():
            uploader._ask("DELETE", "midstream_segments/" + name.replace(" ", "%20"))

    return Place("swift", access.native, options, read, leftovers, running.stop, delete)


@pytest.fixture(scope="module", params=[_moto, _swift, _swift_s3], ids=["moto", "swift", "swift-s3"])
def running(request, tmp_path_factory) -> Iterator[Place]:
    """Each store, started once."""
    place = request.param(tmp_path_factory.mktemp("store"))
    yield place
    place.stop()


@pytest.fixture
def place(running, tmp_path) -> Iterator[Place]:
    """The store without the object, its options those of a test."""
    running.delete()
    options = replace(
        running.options, backoff_base=0, attempts=3, part_size=PART, keep=True, journal=tmp_path / "journal"
    )
    return replace(running, options=options)


@pytest.fixture
def source(tmp_path) -> Path:
    """A file of two parts and a bit."""
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


def whole(place: Place) -> None:
    """The object is there, and nothing but it."""
    assert place.read() == DATA
    segments = 3 if place.name == "swift" else 0
    assert len(place.leftovers()) == segments


@pytest.mark.parametrize("parallel", [1, 3])
def test_in_parts(place, source, parallel) -> None:
    """Each part once; proved by its tag; nothing left, in the store or in the journal's folder."""
    report = upload(source, place.url, options=replace(place.options, parallel=parallel))
    whole(place)
    assert (report.bytes, report.resent, report.reused) == (len(DATA), 0, 0)
    summed = ", crc32 of the whole" * (place.name == "moto")
    assert report.verified == f"md5 of the parts' md5s (etag), 3 parts{summed}"
    assert records(place.options.journal) == []


def test_what_a_download_can_verify(place, source, tmp_path) -> None:
    """An object of parts has an ETag that is no digest of it, on S3; the CRC-32 that went with it is one."""
    upload(source, place.url, options=place.options)
    report = download(place.url, tmp_path / "back", options=place.options)
    assert report.verified == ("crc32 (x-amz-checksum-crc32)" if place.name == "moto" else None)


@pytest.mark.parametrize("status", [400, 501])
@pytest.mark.parametrize("size", [PART, len(DATA)])
def test_a_store_that_refuses_sums(place, tmp_path, status, size) -> None:
    """It is asked once more without, and not again with them: the parts go with their MD5 alone."""
    if place.name == "swift":
        pytest.skip("Swift's own API knows no such field")
    refused: list[str] = []

    class Older(S3Uploader):
        def _ask(self, operation: str, params: dict[str, Any], body: Any = None) -> Any:
            if any(name.startswith("Checksum") for name in params):
                refused.append(operation)
                return Got(status, {}, b"<Error><Code>NotImplemented</Code></Error>")
            return super()._ask(operation, params, body)

    (tmp_path / "some").write_bytes(DATA[:size])
    older = Older(connect(place.url, place.options), place.options)
    assert str(run(place, older, tmp_path / "some")).startswith("md5")
    assert place.read() == DATA[:size]
    assert refused == ["PutObject" if size == PART else "CreateMultipartUpload"]


@pytest.mark.parametrize("size", [0, 1, PART])
def test_in_one_request(place, tmp_path, size) -> None:
    """Up to a part, one byte less than two requests."""
    (tmp_path / "small").write_bytes(DATA[:size])
    report = upload(tmp_path / "small", place.url, options=place.options)
    assert place.read() == DATA[:size]
    assert report.verified == "md5 (etag)"
    assert place.leftovers() == []


class Flaky:
    """An uploader whose `nth` call of a method fails: before it was carried out, or after."""

    def __init__(self, real: Any, method: str, when: str, nth: int = 1, times: int = 1) -> None:
        self._real, self._method, self._when, self._nth, self._times = real, method, when, nth, times
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in ("put", "begin", "send", "look", "commit", "abort", "stat"):
            return found

        def call(*given: Any) -> Any:
            self.calls.append(name)
            count = self.calls.count(name)
            fails = name == self._method and self._nth <= count < self._nth + self._times
            if fails and self._when == "before":
                raise StoreFault("reset", "before")
            told = found(*given)
            if fails:
                raise StoreFault("reset", "after")
            return told

        return call


def run(place: Place, uploader: Any, source: Path) -> str | None:
    """An upload through this uploader."""
    with closing(uploader), closing(open_source(source)) as read:
        return Run(uploader, read, place.url, place.options).run()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["begin", "send", "commit", "stat"])
def test_any_request_fails_once(place, source, method, when) -> None:
    """P41, P45: before it was carried out, or after, with the answer lost: the object is made once, whole."""
    for nth in (1, 2, 3) if method == "send" else (1,):
        flaky = Flaky(open_uploader(place.url, place.options), method, when, nth)
        assert run(place, flaky, source) is not None
        assert place.read() == DATA
        assert flaky.calls.count("commit") == (2 if (method, when) == ("commit", "before") else 1)
        assert flaky.calls.count("send") == (4 if method == "send" else 3)


def test_a_lost_answer_to_a_small_object(place, tmp_path) -> None:
    """Decided by the object: it is not sent again."""
    (tmp_path / "small").write_bytes(DATA[:1000])
    flaky = Flaky(open_uploader(place.url, place.options), "put", "after")
    assert run(place, flaky, tmp_path / "small") == "md5 (etag)"
    assert flaky.calls == ["put", "stat"]


def test_goes_on_where_the_last_call_gave_up(place, source) -> None:
    """What is stored stays, with a record; the next call sends the rest alone."""
    flaky = Flaky(open_uploader(place.url, place.options), "send", "before", 3, times=99)
    with pytest.raises(Exhausted):
        run(place, flaky, source)
    [(_, record)] = records(place.options.journal)
    assert (record.about.size, len(record.parts), record.orphan) == (len(DATA), 2, "")
    assert place.leftovers()
    report = upload(source, place.url, options=place.options)
    whole(place)
    assert report.reused == 2 * PART
    assert records(place.options.journal) == []


def test_not_kept_if_that_is_not_wanted(place, source) -> None:
    """P43: removed, and no record."""
    place = replace(place, options=replace(place.options, keep=False))
    flaky = Flaky(open_uploader(place.url, place.options), "send", "before", 3, times=99)
    with pytest.raises(Exhausted):
        run(place, flaky, source)
    assert (place.leftovers(), place.read(), records(place.options.journal)) == ([], None, [])


def test_an_abort_that_fails_is_made_good_later(place, source) -> None:
    """P43, B142: the record is found by the next upload to the same target, and what it names removed."""
    place = replace(place, options=replace(place.options, keep=False, attempts=1))

    class Failing(Flaky):
        def abort(self, *given: Any) -> Any:
            raise StoreFault("reset", "the outage goes on")

    with pytest.raises(Exhausted):
        run(place, Failing(open_uploader(place.url, place.options), "send", "before", 3, times=99), source)
    [(_, record)] = records(place.options.journal)
    assert "could not be removed" in record.orphan
    assert len(place.leftovers()) == (2 if place.name == "swift" else 1)
    upload(source, place.url, options=place.options)
    whole(place)
    assert records(place.options.journal) == []


def test_other_content_reuses_nothing(place, source) -> None:
    """P48: the same target, size and part size, and other bytes."""
    with pytest.raises(Exhausted):
        run(place, Flaky(open_uploader(place.url, place.options), "send", "before", 3, times=99), source)
    source.write_bytes(bytes(len(DATA)))
    report = upload(source, place.url, options=place.options)
    assert report.reused == 0
    assert place.read() == bytes(len(DATA))


def test_another_size_begins_anew(place, source) -> None:
    """What is left of the other upload is removed from the store."""
    with pytest.raises(Exhausted):
        run(place, Flaky(open_uploader(place.url, place.options), "send", "before", 3, times=99), source)
    source.write_bytes(DATA[:-1])
    assert upload(source, place.url, options=place.options).reused == 0
    assert place.read() == DATA[:-1]
    assert len(place.leftovers()) == (3 if place.name == "swift" else 0)
    assert records(place.options.journal) == []


def test_a_damaged_journal_costs_bytes_alone(place, source) -> None:
    """Any byte of it may be anything."""
    options = place.options
    for at in (0, 40, 200, 300, -20, -3):
        with pytest.raises(Exhausted):
            run(place, Flaky(open_uploader(place.url, options), "send", "before", 3, times=99), source)
        [(path, _)] = records(options.journal)
        journal = bytearray((path / "journal").read_bytes())
        journal[at] ^= 0xFF
        (path / "journal").write_bytes(journal)
        upload(source, place.url, options=options)
        assert place.read() == DATA


KILLED = """
import sys, os, signal
from pathlib import Path
import reknit
from reknit import _upload, Options
step, source, url, journal, part = sys.argv[1:6]
settings = dict(pair.split("=", 1) for pair in sys.argv[6:])
left = [int(step)]
real = _upload.Run._carry_out
def carry_out(self, request):
    event = real(self, request)
    if type(request).__name__ != "Load":
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    return event
_upload.Run._carry_out = carry_out
reknit.upload(source, url, options=Options(store=settings, journal=journal, part_size=int(part)))
"""


@pytest.mark.parametrize("step", range(1, 7))
def test_killed_and_run_again(place, source, step) -> None:
    """kill -9 after each request of begin, three parts, commit and the last look: the next run makes the
    object, and sends no part that was noted."""
    settings = [f"{name}={value}" for name, value in place.options.store.items()]
    given = [str(step), str(source), place.url, str(place.options.journal), str(PART), *settings]
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    report = upload(source, place.url, options=place.options)
    assert place.read() == DATA
    assert report.reused >= min(max(0, step - 2) * PART, len(DATA) if step > 5 else 2 * PART)
    assert records(place.options.journal) == []
    if step > 1:  # (the answer to the first was not noted when it was killed)
        whole(place)


def test_two_at_a_time(place, source, tmp_path) -> None:
    """U8: two processes with one target and one journal have an upload each."""
    settings = [f"{name}={value}" for name, value in place.options.store.items()]
    given = ["99", str(source), place.url, str(place.options.journal), str(PART), *settings]
    both = [subprocess.Popen([sys.executable, "-c", KILLED, *given]) for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert place.read() == DATA
    assert records(place.options.journal) == []


def test_nowhere_to_put_it(place, source) -> None:
    """A bucket that is not there is named, and nothing is left."""
    url = place.url.replace("bucket", "nobucket").replace("midstream", "nobucket")
    for part_size in (PART, 64 << 20):
        with pytest.raises(Refused, match="404"):
            upload(source, url, options=replace(place.options, part_size=part_size))
    assert records(place.options.journal) == []


def test_wrong_credentials(place, source) -> None:
    """The store's own words."""
    if place.name == "moto":
        pytest.skip("moto looks at no signature")
    store = {**place.options.store, "key" if place.name == "swift" else "secret_key": "wrong"}
    with pytest.raises(Refused, match=r"40[13]"):
        upload(source, place.url, options=replace(place.options, store=store))
    assert (place.read(), records(place.options.journal)) == (None, [])


def test_a_journal_that_cannot_be_written(place, source, tmp_path) -> None:
    """Said before anything is sent."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match=r"cannot write the upload's journal .*file"):
        upload(source, place.url, options=replace(place.options, journal=tmp_path / "file"))
    assert (place.read(), place.leftovers()) == (None, [])


def test_interrupted(place, source) -> None:
    """Ctrl-C, with parts under way in threads: it ends at once, and what was stored is gone on with."""
    options = replace(place.options, parallel=2)
    sent: list[int] = []

    class Stuck(Flaky):
        def send(self, session: str, piece: Any, body: Any) -> Any:
            sent.append(piece.number)
            if len(sent) == 3:  # so one of the first two is stored, and noted
                os.kill(os.getpid(), signal.SIGINT)
            return self._real.send(session, piece, body)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(replace(place, options=options), Stuck(open_uploader(place.url, options), "", ""), source)
    assert time.monotonic() - began < options.idle_timeout
    assert upload(source, place.url, options=options).reused > 0
    assert place.read() == DATA


def test_too_large() -> None:
    """Part sizes grow with the object, up to what the store takes."""
    from reknit._upload import _part_size
    from reknit.stores._s3_upload import S3Uploader
    from reknit.stores._swift_upload import SwiftUploader

    s3 = S3Uploader.shape
    assert _part_size(s3, 1 << 30, 1) == 5 << 20
    assert _part_size(s3, 1 << 30, 8 << 20) == 8 << 20
    assert _part_size(s3, 80_000 << 20, 8 << 20) == 8 << 20
    assert _part_size(s3, (80_000 << 20) + 1, 8 << 20) == 9 << 20
    assert -(-(5 << 40) // _part_size(s3, 5 << 40, 8 << 20)) <= 10_000
    assert _part_size(SwiftUploader.shape, 9 << 30, 8 << 20) == 10 << 20
    with pytest.raises(CallerError, match="more than this store takes"):
        _part_size(s3, 60_000 << 30, 8 << 20)
