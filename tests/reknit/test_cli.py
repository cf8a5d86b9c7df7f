"""The command line: what it prints, and what it ends with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def run(*arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reknit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_done(origin, whole, say, tmp_path) -> None:
    """0, one line on stdout; nothing with --quiet."""
    data = b"x" * 5000
    origin.script = [say(whole(data)[:-10])]
    origin.then = lambda asked: say(whole(data, asked))
    result = run("get", origin.url(), tmp_path / "dest", "--idle-timeout", 5)
    assert (result.returncode, result.stderr) == (0, "")
    assert "5000 bytes" in result.stdout
    assert "1 resumed" in result.stdout
    assert (tmp_path / "dest").read_bytes() == data
    quiet = run("get", origin.url(), tmp_path / "dest", "--quiet")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_to_standard_output(origin, whole, say, tmp_path) -> None:
    """`-` is standard output: the bytes there, the words on stderr, and no file of that name."""
    data = bytes(range(256)) * 4000
    origin.script = [say(whole(data)[:-9000])]
    origin.then = lambda asked: say(whole(data, asked))
    command = [sys.executable, "-m", "reknit", "get", origin.url(), "-"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, data)
    assert b"-: 1024000 bytes" in done.stderr
    assert b"1 resumed" in done.stderr
    assert list(tmp_path.iterdir()) == []
    named = subprocess.run([*command[:-1], "./-"], capture_output=True, timeout=60, check=False, cwd=tmp_path)
    assert (named.returncode, (tmp_path / "-").read_bytes()) == (0, data)
    ranged = subprocess.run([*command, "--parallel", "2"], capture_output=True, timeout=60, check=False)
    assert (ranged.returncode, ranged.stdout) == (2, b"")


def test_standard_output_that_is_closed(origin, whole, say) -> None:
    """A reader that leaves is a failure that is told, in one line."""
    data = bytes(4 << 20)
    origin.then = lambda asked: say(whole(data, asked))
    command = [sys.executable, "-m", "reknit", "get", origin.url(), "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 1
    assert told == b"reknit: cannot write to standard output: Broken pipe\n"


def test_version() -> None:
    """Its own name and the number of the distribution."""
    told = run("--version")
    assert (told.returncode, told.stderr) == (0, "")
    assert re.fullmatch(r"reknit \d+\.\d+\.\d+\n", told.stdout)


def test_failed(origin, say, tmp_path) -> None:
    """1, with the reason; how to go on when going on makes sense."""
    origin.then = lambda asked: say(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")
    url = origin.url()
    secret = url.replace("//", "//user:secret@") + "?signature=secret"
    gone = run("get", secret, tmp_path / "dest")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr == f"reknit: {url}: the store answered status 404\n"
    origin.then = lambda asked: say(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    busy = run("get", origin.url(), tmp_path / "dest", "--attempts", 1, "--backoff-base", 0)
    assert busy.returncode == 1
    assert "503" in busy.stderr
    assert busy.stderr.endswith("\nnothing is kept: the same command begins anew\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        "get",
        "nonsense",
        "get gopher://x/ dest",
        "get http://127.0.0.1/ dest --attempts x",
        "get http://127.0.0.1/ dest --expect md5:1",
        "get http://127.0.0.1/ dest --store x",
    ],
)
def test_usage(arguments) -> None:
    """2, and nothing else happens."""
    result = run(*arguments.split())
    assert result.returncode == 2
    assert result.stderr


def test_interrupted(origin, whole, say, tmp_path) -> None:
    """130: the partial stays, and the same command finishes."""
    data = os.urandom(100_000)
    wire = whole(data)
    origin.script = [say(wire[:-30_000], "hold")]
    child = subprocess.Popen(
        [sys.executable, "-m", "reknit", "get", origin.url(), str(tmp_path / "dest")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        written = any(path.stat().st_size >= 70_000 for path in tmp_path.glob(".*/data"))
        if written and Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S":
            break  # it has taken note of them, and waits for more
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "again to continue" in told
    assert "Traceback" not in told
    origin.then = lambda asked: say(whole(data, asked))
    assert run("get", origin.url(), tmp_path / "dest").returncode == 0
    assert "Range: bytes=70000-" in origin.asked[1]
    assert (tmp_path / "dest").read_bytes() == data


def test_interrupted_before_the_first_byte(origin, say, tmp_path) -> None:
    """Nothing is said to be kept where nothing is."""
    origin.script = [say(b"", "hold")]
    child = subprocess.Popen(
        [sys.executable, "-m", "reknit", "get", origin.url(), str(tmp_path / "dest")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not origin.asked:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=30)
    assert (child.returncode, told) == (130, "reknit: interrupted; nothing is kept\n")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(origin, whole, say, tmp_path) -> None:
    """What is kept, how to go on and how to be rid of it; both commands do what they are said to."""
    data = os.urandom(300_000)
    origin.then = lambda asked: say(whole(data, asked))
    script = (
        "import errno, os, sys\n"
        "from reknit._filesink import Disk\n"
        "from reknit.__main__ import main\n"
        "def write(self, fd, data, offset):\n"
        "    if offset + len(data) > 200_000: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    return os.pwrite(fd, data[:50_000], offset)\n"
        "Disk.write = write\n"
        "main()\n"
    )
    folder = tmp_path / "a folder"
    folder.mkdir()
    command = [sys.executable, "-c", script, "get", origin.url(), folder / "dest"]
    full = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert full.returncode == 1
    first, second = full.stderr.splitlines()
    assert first == f"reknit: cannot write the partial ({folder / 'dest'}): the disk is full"
    assert re.fullmatch(
        rf"\d+ bytes are kept: run the same command again to continue, or `reknit resume --clean '{folder}'` "
        "to remove them",
        second,
    )
    kept = int(second.split()[0])
    assert 0 < kept <= 200_000
    again = run("get", origin.url(), folder / "dest")
    assert (again.returncode, f"bytes={kept}-" in origin.asked[-1]) == (0, True)
    assert (folder / "dest").read_bytes() == data
    (folder / "dest").unlink()
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert run("resume", "--clean", folder).returncode == 0
    assert list(folder.iterdir()) == []


def test_a_file_that_is_not_there(tmp_path) -> None:
    """A file has no status of HTTP's."""
    missing = run("get", f"file://{tmp_path}/missing", tmp_path / "dest")
    assert missing.returncode == 1
    assert missing.stderr == f"reknit: file://{tmp_path}/missing: No such file or directory\n"


def test_why_no_digest_was_verified(origin, whole, say, tmp_path) -> None:
    """The store's reason or the caller's."""
    data = b"x" * 5000
    origin.then = lambda asked: say(whole(data, asked, etag=f'"{"0" * 32}-12"'))
    said = run("get", origin.url(), tmp_path / "dest").stdout
    assert said.endswith(
        "no digest verified (the store gives none of the whole object, only one over its 12 parts)\n"
    )
    said = run("get", origin.url(), tmp_path / "dest", "--no-verify").stdout
    assert said.endswith("no digest verified (verification was turned off)\n")


def test_importing_is_quick_and_light() -> None:
    """No HTTP library, SDK, or terminal library before one is needed."""
    script = (
        "import sys, reknit\n"
        "heavy = {'requests', 'boto3', 'keystoneauth1', 'typer', 'rich', 'awscrt'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    """The hint is the command to type."""
    script = (
        "import sys; sys.modules['botocore.config'] = None; sys.modules['boto3'] = None\n"
        "from reknit.__main__ import main\n"
        "sys.argv = ['reknit', 'get', 's3://b/k', sys.argv[1]]; main()"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "dest")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "pip install 'midstream[s3]'" in result.stderr


@pytest.mark.parametrize(("option", "shape"), [("--header", "NAME:VALUE"), ("--store", "NAME=VALUE")])
def test_an_option_that_is_no_pair_is_named(tmp_path, option, shape) -> None:
    """2, with the option and what it takes."""
    told = run("get", "http://127.0.0.1:9/x", tmp_path / "dest", option, "foo")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == f"reknit: {option} 'foo': not {shape}\n"
