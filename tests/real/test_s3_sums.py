"""reknit's sums of an upload in parts, at real servers that keep and verify them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.real.conftest import need

from midstream._registry import load
from reknit import Integrity, Options, Refused, download, upload
from reknit.stores._s3_upload import S3Uploader

PART = 5 << 20
NAMES = {
    "access_key": "AWS_ACCESS_KEY_ID",
    "secret_key": "AWS_SECRET_ACCESS_KEY",
    "endpoint_url": "AWS_ENDPOINT_URL",
}


@pytest.fixture(scope="module", params=["minio", "versitygw"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Options]]:
    """Where to upload to, and how."""
    need(request.param)
    folder = tmp_path_factory.mktemp("store")
    store = load("stores", request.param).start(folder)
    access = store.access("sums", f"http://127.0.0.1:{store.port}")
    settings = {name: access.env[variable] for name, variable in NAMES.items()}
    yield access.native, Options(store=settings, backoff_base=0, part_size=PART, journal=folder / "journal")
    store.stop()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two parts and a bit."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(2 * PART + 1000))
    return path


def test_kept_and_verified(place: tuple[str, Options], source: Path, tmp_path: Path) -> None:
    """The store says the CRC-32 of the whole when it is made, and a download verifies it."""
    url, options = place
    assert (
        upload(source, url, options=options).verified
        == "md5 of the parts' md5s (etag), 3 parts, crc32 of the whole"
    )
    assert download(url, tmp_path / "back", options=options).verified == "crc32 (x-amz-checksum-crc32)"


def test_resumed_with_its_sums(
    place: tuple[str, Options], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later process learns from the list of parts that the upload keeps them."""
    url, options = place

    class Ended(BaseException):
        pass

    def send(self: S3Uploader, session: str, piece: Any, body: Any) -> Any:
        if piece.number == 3:
            raise Ended
        return real(self, session, piece, body)

    real = S3Uploader.send
    with monkeypatch.context() as patch:
        patch.setattr(S3Uploader, "send", send)
        with pytest.raises(Ended):
            upload(source, url, options=options)
    report = upload(source, url, options=options)
    assert report.reused == 2 * PART
    assert "crc32 of the whole" in str(report.verified)


def test_damaged_on_the_way(
    place: tuple[str, Options], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part whose CRC-32 is not the one sent along, while its MD5 is, is refused, and sent again."""
    url, options = place
    sums = iter([1, 2, 3])
    real = S3Uploader.send

    def send(self: S3Uploader, session: str, piece: Any, body: Any) -> Any:
        if (wrong := next(sums, None)) is not None:
            body.crc32 = wrong
        return real(self, session, piece, body)

    monkeypatch.setattr(S3Uploader, "send", send)
    assert "crc32 of the whole" in str(upload(source, url, options=options).verified)
    assert next(sums, None) is None


def test_another_whole_than_was_meant(
    place: tuple[str, Options], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store refuses to make an object whose CRC-32 is not the one of the commit: nothing is published."""
    url, options = place
    monkeypatch.setattr("reknit.stores._s3_upload.crc32_of", lambda parts: zlib.crc32(b"other"))
    with pytest.raises(Integrity, match="other bytes than were sent"):
        upload(source, url + "-other", options=replace(options, attempts=1, restarts=0))
    with pytest.raises(Refused, match="404"):
        download(url + "-other", source.with_name("back"), options=options)
