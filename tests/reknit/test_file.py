"""The file store."""

from __future__ import annotations

import os

import pytest

from reknit import CallerError, Refused, download, open_stream, stat
from reknit._errors import StoreFault
from reknit.stores import open_store

DATA = bytes(range(256)) * 64


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "a source"
    path.write_bytes(DATA)
    return path


def url(path) -> str:
    return "file://" + str(path).replace(" ", "%20")


@pytest.mark.parametrize("size", [0, 1, 4096, len(DATA)])
def test_whole(source, fast, tmp_path, size) -> None:
    """Any size, in one request."""
    source.write_bytes(DATA[:size])
    report = download(url(source), tmp_path / "dest", options=fast)
    assert (tmp_path / "dest").read_bytes() == DATA[:size]
    assert report.requests == 1


def test_ranges(source, fast) -> None:
    """The words of HTTP: 206, clamped; 416 past the end; 412 under another tag."""
    store = open_store(url(source), fast)
    tag = store.stat().headers["etag"]
    part = store.open_range(10, 13, tag)
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 10-13/{len(DATA)}")
    assert part.read(100) == DATA[10:14]
    assert part.read(100) == b""
    part.close()
    assert store.open_range(len(DATA), None, tag).status == 416
    assert store.open_range(1, None, '"other"').status == 412
    assert store.open_range(1, 10**9, tag).headers["content-range"] == f"bytes 1-{len(DATA) - 1}/{len(DATA)}"


def test_a_file_that_changes_under_the_reader(source, fast) -> None:
    """The end is not reached on a file that was written to; a stream says Changed, never a mixture."""
    store = open_store(url(source), fast)
    body = store.open_range(0, None, None)
    body.read(100)
    with source.open("r+b") as file:
        file.write(b"x")
    with pytest.raises(StoreFault, match="changed"):
        list(iter(lambda: body.read(10**6), b""))
    body.close()


def test_a_read_that_ends_too_early(source, fast, monkeypatch) -> None:
    """P1: nothing before the end is not the end, whatever the file system says of the file."""
    body = open_store(url(source), fast).open_range(0, None, None)
    monkeypatch.setattr("reknit.stores.file.os.pread", lambda *_: b"")
    with pytest.raises(StoreFault):
        body.read(10)
    body.close()


def test_a_file_that_is_replaced_between_two_runs(source, fast, tmp_path) -> None:
    """S1: same size, other inode: 412, and the whole of the new one."""
    calls = []

    def replace_once(now) -> None:
        if not calls:
            calls.append(now)
            os.utime(source, ns=(1, 1))
            (tmp_path / "new").write_bytes(DATA[::-1])
            (tmp_path / "new").replace(source)

    from dataclasses import replace

    report = download(
        url(source), tmp_path / "dest", options=replace(fast, buffer=1000), progress=replace_once
    )
    assert (tmp_path / "dest").read_bytes() == DATA[::-1]
    assert report.restarts == 1


@pytest.mark.parametrize(("name", "status"), [("nothing", 404), ("a source/x", 404), (".", 400)])
def test_refusals(source, fast, tmp_path, name, status) -> None:
    """Missing, below a file, a folder."""
    with pytest.raises(Refused) as caught:
        download(url(tmp_path / name), tmp_path / "dest", options=fast)
    assert caught.value.status == status


def test_bad_urls(fast) -> None:
    """A host, or a relative path."""
    for bad in ("file://host/x", "file:x"):
        with pytest.raises(CallerError):
            open_stream(bad, options=fast)


def test_stat(source, fast) -> None:
    """Size and a strong tag."""
    assert stat(url(source), options=fast).size == len(DATA)
    assert stat(url(source), options=fast).etag


@pytest.mark.parametrize(("first", "length"), [(0, 10), (100, None), (len(DATA) - 5, 10)])
def test_a_slice(source, fast, tmp_path, first, length) -> None:
    """P16, clamped to the file."""
    download(url(source), tmp_path / "dest", first=first, length=length, options=fast)
    assert (tmp_path / "dest").read_bytes() == DATA[first:][:length]


def test_a_slice_beyond_the_end(source, fast, tmp_path) -> None:
    """416, and nothing is left."""
    with pytest.raises(Refused) as caught:
        download(url(source), tmp_path / "dest", first=len(DATA), options=fast)
    assert caught.value.status == 416
    assert list(tmp_path.iterdir()) == [source]


def test_a_slice_of_nothing(source, fast, tmp_path) -> None:
    """An empty file has an empty beginning."""
    source.write_bytes(b"")
    assert download(url(source), tmp_path / "dest", length=5, options=fast).bytes == 0
    assert (tmp_path / "dest").read_bytes() == b""
