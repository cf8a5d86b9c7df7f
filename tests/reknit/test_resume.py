"""What interrupted transfers left behind: listed as it is, and removed only when nobody works on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reknit import Exhausted, SinkError, download, resume
from reknit import _journal as journal
from reknit._representation import Representation
from reknit._upload_journal import About, UploadJournal

DATA = bytes(range(256)) * 400


@pytest.fixture
def left(origin, whole, say, fast, tmp_path):
    """Leaves a partial of 60,000 bytes in the folder, under a URL with secrets; gives its path."""
    head = whole(DATA)
    origin.script = [say(head[: len(head) - len(DATA) + 60_000], "fin")]
    origin.then = lambda asked: say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    url = origin.url("/image?signature=secret#x").replace("//", "//me:secret@")
    with pytest.raises(Exhausted):
        download(url, tmp_path / "image", options=replace(fast, attempts=1))
    (path,) = tmp_path.iterdir()
    return path


def test_a_download(left, origin) -> None:
    """It says of what it is, without secrets, and how much of it is proved."""
    (one,) = resume.find(left.parent)
    assert (one.path, one.name, one.state, one.why) == (left, "image", "resumable", "")
    assert (one.url, one.at) == (origin.url("/image"), "")
    assert (one.usable, one.total) == (60_000, len(DATA))
    assert one.size >= 60_000
    assert 0 <= one.age < 60
    assert b"secret" not in (left / "journal").read_bytes()


def test_nothing_is_changed_by_looking(left) -> None:
    """Listing leaves every byte and name as it is."""
    before = {path.name: path.read_bytes() for path in left.iterdir()}
    resume.find(left.parent)
    assert {path.name: path.read_bytes() for path in left.iterdir()} == before


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("no journal", "no journal"),
        ("torn head", "damaged"),
        ("other format", "another version"),
        ("other bytes", "not what its journal says"),
        ("no data", "not what its journal says"),
        ("no validator", "binds it"),
    ],
)
def test_what_is_of_no_use(left, damage, why) -> None:
    """Useless, with the reason; and the next download begins at zero, see the tests of partials."""
    if damage == "no journal":
        (left / "journal").unlink()
    elif damage == "torn head":
        (left / "journal").write_bytes((left / "journal").read_bytes()[5:])
    elif damage == "other format":
        (left / "journal").write_bytes(journal.line({"reknit": 99, "object": "x"}))
    elif damage == "other bytes":
        (left / "data").write_bytes(b"x" * 60_000)
    elif damage == "no data":
        (left / "data").unlink()
    else:
        (left / "journal").write_bytes(
            journal.head("x", Representation(total=9), "crc32") + journal.mark(1, 1)
        )
    (one,) = resume.find(left.parent)
    assert (one.state, one.usable) == ("useless", 0)
    assert why in one.why


def test_owners(left) -> None:
    """Of this very process: running. Of one that is gone: resumable. Of another machine: elsewhere."""
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    from reknit import _partial

    for owner, state in (
        (f"{_partial._host()}-{os.getpid()}-{started}-00000000", "running"),
        (f"{_partial._host()}-{os.getpid()}-1-00000000", "resumable"),
        ("ffffffff-1-1-00000000", "elsewhere"),
    ):
        (path,) = left.parent.iterdir()
        path.rename(left.parent / f".image.reknit-{owner}")
        (one,) = resume.find(left.parent)
        assert one.state == state
        assert (resume.clean(left.parent) == []) == (state != "resumable")
        if state == "resumable":
            assert list(left.parent.iterdir()) == []
            (left.parent / f".image.reknit-{owner}").mkdir()
    (path,) = left.parent.iterdir()
    old = time.time() - 7200
    os.utime(path, (old, old))
    assert [gone.path for gone in resume.clean(left.parent)] == [path], "untouched for an hour"


def test_a_running_download_is_left_alone(origin, whole, say, fast, tmp_path) -> None:
    """Listed as running while it runs, and not removed; then there is nothing."""
    origin.then = lambda asked: say(whole(DATA, asked))
    seen = []

    def look(now: object) -> None:
        seen.extend(one.state for one in resume.find(tmp_path))
        assert resume.clean(tmp_path) == []

    download(origin.url(), tmp_path / "image", options=fast, progress=look)
    assert set(seen) == {"running"}
    assert (tmp_path / "image").read_bytes() == DATA
    assert resume.find(tmp_path) == []


def test_the_clock_may_jump(left) -> None:
    """A time of writing that lies in the future is no negative age."""
    later = time.time() + 10**6
    for part in left.iterdir():
        os.utime(part, (later, later))
    assert resume.find(left.parent)[0].age == 0


def test_other_things_are_not_ours(tmp_path) -> None:
    """Files, links and folders with other names are neither listed nor removed."""
    (tmp_path / ".image.reknit-free-0000000g").mkdir()
    (tmp_path / ".image.reknit-free-00000000").write_text("a file")
    (tmp_path / ".image.reknit-free-00000001").symlink_to(tmp_path)
    (tmp_path / "image.reknit-free-00000000").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert resume.find(tmp_path) == resume.clean(tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with pytest.raises(SinkError, match="cannot read"):
        resume.find(tmp_path / "nothing")


def test_uploads(tmp_path) -> None:
    """Records of uploads: how much is stored, and why one could not be removed. Cleaning leaves them."""
    about = About("s3 http://me:secret@127.0.0.1:9000 bucket/key", "s3://bucket/key", 100, 10)
    record = UploadJournal(tmp_path, about)
    record.session("id")
    assert [one.state for one in resume.uploads(tmp_path)] == ["running"]
    record.close(keep=True)
    (one,) = resume.uploads(tmp_path)
    assert (one.state, one.url, one.total, one.usable) == ("resumable", "s3://bucket/key", 100, 0)
    assert one.at == "http://127.0.0.1:9000"
    record = UploadJournal(tmp_path, about)
    record.orphan("status 503")
    record.close(keep=True)
    (one,) = resume.uploads(tmp_path)
    assert (one.state, "503" in one.why) == ("orphan", True)
    assert resume.uploads(tmp_path / "none") == []


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reknit", "resume", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(left, origin, tmp_path) -> None:
    """One line for each; --clean removes; a folder that is none is a matter of usage."""
    none = ("--journal", tmp_path / "none")
    said = run(left.parent, *none)
    assert said.returncode == 0
    assert said.stdout.split()[:5] == ["resumable", "60000", "of", str(len(DATA)), "bytes"]
    assert f"image  {origin.url('/image')}" in said.stdout
    assert "secret" not in said.stdout
    assert run(left.parent, "--clean", *none).stdout.startswith("removed")
    assert run(left.parent, *none).stdout == "nothing is left behind\n"
    assert run(tmp_path / "nothing").returncode == 2
