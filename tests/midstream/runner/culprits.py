"""Drivers that misbehave, each in one way; run by name (`py:culprits.py:FUNCTION`) in worker processes."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from midstream._content import Content
from midstream.drivers import Job

KEPT: list[object] = []


def read(url: str, start: int = 0) -> bytes:
    """From `start` to the end, in one request; whatever comes before the connection breaks."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    got = bytearray()
    try:
        with urllib.request.build_opener().open(urllib.request.Request(url, headers=headers)) as answer:
            while piece := answer.read1(65536):
                got += piece
    except OSError:
        pass
    return bytes(got)


def size_of(job: Job) -> int:
    return int(job.url.rsplit("/", 1)[1].split("-")[0])


def right(job: Job) -> None:
    """Resumes as it should."""
    data = b""
    size = size_of(job)
    for _ in range(5):
        data += read(job.url, len(data))
        if len(data) >= size:
            break
    job.dest.write_bytes(data)


def restarts(job: Job) -> None:
    """Begins anew each time."""
    for _ in range(5):
        data = read(job.url)
        if len(data) == size_of(job):
            job.dest.write_bytes(data)
            return
    raise OSError("never whole")


def _wrong(make: Callable[[bytes, Job], bytes]) -> Callable[[Job], None]:
    """A driver that is right until a connection breaks, and then does as `make` says."""

    def download(job: Job) -> None:
        data = read(job.url)
        job.dest.write_bytes(data if len(data) == size_of(job) else make(data, job))

    return download


truncates = _wrong(lambda data, job: data)
duplicates = _wrong(lambda data, job: data + read(job.url))
shifts = _wrong(lambda data, job: data + read(job.url, len(data) + 100))
leaves_a_hole = _wrong(lambda data, job: data + bytes(100) + read(job.url, len(data) + 100))
splices = _wrong(
    lambda data, job: data + Content(size_of(job), 0, 2).read(len(data), size_of(job) - len(data))
)
inserts_a_page = _wrong(
    lambda data, job: data + b"<html>503 Slow Down</html>" * 10 + read(job.url, len(data))
)
flips = _wrong(
    lambda data, job: data + bytes([read(job.url, len(data))[0] ^ 0x80]) + read(job.url, len(data) + 1)
)


def leaves_a_file(job: Job) -> None:
    right(job)
    job.dest.with_name("object.tmp").write_bytes(b"x")


def fails_after_a_cut(job: Job) -> None:
    data = read(job.url)
    if len(data) != size_of(job):
        raise OSError(f"got {len(data)} of {size_of(job)} bytes")
    job.dest.write_bytes(data)


def fails_and_leaves_it(job: Job) -> None:
    data = read(job.url)
    job.dest.write_bytes(data)
    if len(data) != size_of(job):
        raise OSError("short")


def storms(job: Job) -> None:
    for _ in range(60):
        data = read(job.url, 1)
    job.dest.write_bytes(read(job.url)[:1] + data)


def never_right(job: Job) -> None:
    """Wrong even without a fault."""
    job.dest.write_bytes(b"hello")


def needs_no_network(job: Job) -> None:
    """Makes no request at all."""
    job.dest.write_bytes(Content(size_of(job), 0).whole())


def probes(job: Job) -> None:
    """Looks at the first byte before it fetches."""
    with urllib.request.build_opener().open(
        urllib.request.Request(job.url, headers={"Range": "bytes=0-0"})
    ) as answer:
        answer.read()
    right(job)


# --- without any request: what a process can do


def returns(job: Job) -> None:
    pass


def raises(job: Job) -> None:
    raise ValueError("a value\nover two lines")


def raises_the_unprintable(job: Job) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise Odd


def raises_half_a_character(job: Job) -> None:
    raise OSError("file \udcff and \x00 and \x1b[31m")


def tells_its_secret(job: Job) -> None:
    raise OSError(f"denied: {os.environ['STORE_SECRET_KEY']} for /b/k?X-Amz-Signature=cafe01&x=1")


def is_cancelled(job: Job) -> None:
    raise asyncio.CancelledError


def exits_well(job: Job) -> None:
    sys.exit(0)


def exits_badly(job: Job) -> None:
    sys.exit("no luck")


def imports_what_is_not_there(job: Job) -> None:
    importlib.import_module("a_package_that_is_not_there")


def spins(job: Job) -> None:
    while True:
        pass


def sleeps(job: Job) -> None:
    time.sleep(1000)


def ignores_sigterm(job: Job) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1000)


def dies_quietly(job: Job) -> None:
    os._exit(7)


def dies_of_a_signal(job: Job) -> None:
    sys.stderr.write("last words\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def leaves_a_child_and_dies(job: Job) -> None:
    """The child holds every pipe of its parent open."""
    if not os.fork():
        time.sleep(1000)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def leaves_a_child(job: Job) -> None:
    child = os.fork()
    if not child:
        time.sleep(1000)
        os._exit(0)
    job.dest.write_text(str(child))


def runs_on_in_its_child(job: Job) -> None:
    """A fork whose child returns like the parent, and so would take jobs too."""
    os.fork()


def shouts(job: Job) -> None:
    for stream in (sys.stdout, sys.stderr):
        for _ in range(64):
            stream.write("x" * 65535 + "\n")
    os.write(1, b'{"said": "ok"}\n')
    subprocess.run(["echo", '{"said": "ok"}'], check=True)
    raise OSError("the end")


def reads_its_input(job: Job) -> None:
    job.dest.write_text(repr(sys.stdin.read()))


def closes_its_input(job: Job) -> None:
    sys.stdin.close()
    try:
        os.close(0)
    except OSError:
        pass  # closed with it


def leaks_threads(job: Job) -> None:
    for _ in range(30):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def leaks_sockets(job: Job) -> None:
    KEPT.extend(socket.socket() for _ in range(30))


def changes_its_surroundings(job: Job) -> None:
    os.environ["LEAKED"] = "1"
    os.environ.pop("HOME")
    os.chdir("/")


def tells_its_surroundings(job: Job) -> None:
    home = Path(os.environ["HOME"])
    job.dest.write_text(f"{Path.cwd()} {os.environ.get('LEAKED')} {home.is_dir()} {os.getpid()}")
