"""reknit beside other clients: whole and cut downloads, uploads, memory.

Each client is a process of its own, started anew each time, in turn with the others; its start counts.
Everything lies in memory (/dev/shm), so that no disk is measured; only the 10 GiB go to a real one.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from common import CACHE, GIB, MIDSTREAM, free_port, nginx_config, row, running, say

_DONE = "done"
CUTS = 10
BUFFER = 1 << 20  # reknit's own default
OBSTORE = ("obstore==0.12.1", "awscrt==0.38.1")

# What each prints last, and exits with 0, for the client that is a library.
_OBSTORE = """
import sys
from obstore.store import from_url
url, key, dest, expect = sys.argv[1:5]
options = {"client_options": {"allow_http": True, "timeout": "600s"}}
if len(sys.argv) > 5:
    options |= {"endpoint": sys.argv[5], "access_key_id": sys.argv[6], "secret_access_key": sys.argv[7]}
    options |= {"region": "us-east-1"}
crc = 0
if len(expect) == 64:
    import hashlib
    running = hashlib.sha256()
elif expect:
    from awscrt.checksums import crc64nvme
with open(dest, "wb") as sink:
    for block in from_url(url, **options).get(key).stream(min_chunk_size=1 << 20):
        sink.write(block)
        if len(expect) == 64:
            running.update(block)
        elif expect:
            crc = crc64nvme(block, crc)
assert not expect or expect == (running.hexdigest() if len(expect) == 64 else f"{crc:016x}")
"""
_CRC64NVME = """
import sys
from awscrt.checksums import crc64nvme
crc, block = 0, memoryview(bytearray(1 << 20))
with open(sys.argv[1], "rb", buffering=0) as file:
    while size := file.readinto(block):
        crc = crc64nvme(block[:size], crc)
assert f"{crc:016x}" == sys.argv[2]
"""
_BOTO3 = """
import sys, boto3
way, bucket, key, path, endpoint, access, secret = sys.argv[1:8]
client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=access, aws_secret_access_key=secret,
                      region_name="us-east-1")
client.download_file(bucket, key, path) if way == "get" else client.upload_file(path, bucket, key)
"""
_REKNIT = """
import json, sys, reknit
way, one, other, options = sys.argv[1:5]
def peak():  # getrusage tells the parent's, if that had more
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
call = reknit.download if way == "get" else reknit.upload
report = call(one, other, options=reknit.Options(**json.loads(options)))
after = peak()
print(json.dumps({"bytes": report.bytes, "verified": report.verified, "growth": (after - before) * 1024,
                  "refetched": getattr(report, "bytes_refetched", 0)}))
"""


def downloads(quick: bool) -> list[dict[str, Any]]:
    """A clean 1 GiB to a file, from nginx and from MinIO, against the fastest of the others."""
    rounds = 3 if quick else 7
    rows = []
    with _served() as (folder, url):
        expect = _sha256(folder / "www" / "object")
        ways = _from_nginx(folder, url, expect)
        dest = folder / "dest"
        rows.append(_race("1 GiB from nginx to a file, SHA-256 verified", ways, rounds, done=dest))
    with _minio() as place:
        if place is None:
            say("MinIO is not installed (midstream install minio): left out")
        else:
            ways, dest = _from_minio(*place), place[0] / "dest"
            rows.append(_race("1 GiB from MinIO to a file, CRC64NVME verified", ways, rounds, done=dest))
            ways = {"reknit": ways["reknit"], **_from_minio(*place, verified=False)}
            text = "1 GiB from MinIO to a file, ours verified, the others not"
            rows.append(_race(text, ways, rounds, 0, dest))
    return rows


def cuts(quick: bool) -> list[dict[str, Any]]:
    """The same through the injector, with ten cuts and with none."""
    rounds = 3 if quick else 7
    with _served() as (folder, url):
        options = {"expect": f"sha256:{_sha256(folder / 'www' / 'object')}"}
        upstream = url.rpartition("/")[0]
        seconds: dict[str, list[float]] = {"clean": [], "cut": []}
        extra = []
        for number in range(rounds + 1):
            for way, spans in seconds.items():
                step = GIB // (CUTS + 1)
                lines = [f"GET cut@{step * (n + 1) + 12345}:rst" for n in range(CUTS)]
                faults = lines if way == "cut" else [f"GET#* cut@{2 * GIB}:rst"]
                with _proxy(upstream, faults) as through:
                    began = time.monotonic()
                    told = _reknit("get", f"{through}/object", str(folder / "dest"), options)
                    took = time.monotonic() - began
                (folder / "dest").unlink()
                if number:
                    spans.append(took)
                    if way == "cut":
                        extra.append(told["refetched"])
    clean, cut = (statistics.median(seconds[way]) for way in ("clean", "cut"))
    most = max(extra)
    return [
        row("1 GiB with 10 cuts, against none", "s", cut, {"none": clean}, clean / cut, round(1 / 1.1, 3)),
        row(
            "bytes received twice in 10 cuts, against a buffer for each",
            "MiB",
            most / (1 << 20),
            {"allowed": CUTS * BUFFER / (1 << 20)},
            CUTS * BUFFER / max(most, 1 << 16),
            1.0,
        ),
    ]


def uploads(quick: bool) -> list[dict[str, Any]]:
    """1 GiB from a file to MinIO, four parts at once; boto3's transfer manager sends ten."""
    with _minio(full=False) as place:
        if place is None:
            say("MinIO is not installed (midstream install minio): left out")
            return []
        folder, endpoint, access, secret, _ = place
        settings = {"endpoint_url": endpoint, "access_key": access, "secret_key": secret}
        ours = {"store": settings, "journal": str(folder / "journal"), "parallel": 4}
        boto3 = [sys.executable, "-c", _BOTO3, "put", "bench", "theirs", str(folder / "source")]
        ways: dict[str, Callable[[], object]] = {
            "reknit": lambda: _reknit("put", str(folder / "source"), "s3://bench/ours", ours),
            "boto3": lambda: _run([*boto3, endpoint, access, secret]),
        }
        return [_race("1 GiB from a file to MinIO, several parts at once", ways, 3 if quick else 7)]


def resident(quick: bool) -> list[dict[str, Any]]:
    """How much memory an object of 10 GiB (1 GiB when quick) takes, whatever its size."""
    size = GIB if quick else 10 * GIB
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        (folder / "www").mkdir()
        with (folder / "www" / "object").open("wb") as file:
            file.truncate(size)
        url = stack.enter_context(_nginx(folder))
        for name, goal, options in (
            ("single", 32, {}),
            ("four ranges at once", 128, {"parallel": 4}),
        ):
            told = _reknit("get", url, str(folder / "dest"), options)
            assert told["bytes"] == size
            (folder / "dest").unlink()
            growth = told["growth"] / (1 << 20)
            text = f"resident growth, {size // GIB} GiB, {name}"
            rows.append(row(text, "MiB", growth, {"allowed": goal}, goal / max(growth, 0.1), 1.0))
    return rows


# -- the clients -----------------------------------------------------------------------------------------


def _from_nginx(folder: Path, url: str, expect: str) -> dict[str, Callable[[], object]]:
    dest = folder / "dest"
    hashed = f"test \"$(openssl dgst -sha256 -r '{dest}' | cut -c1-64)\" = {expect}"
    ways: dict[str, Callable[[], object]] = {
        "reknit": lambda: _reknit("get", url, str(dest), {"expect": f"sha256:{expect}"}),
        "curl": lambda: _run(["sh", "-ec", f"curl -sS -f -o '{dest}' '{url}'; {hashed}"]),
    }
    if aria2c := _debian("aria2c", "aria2", "libaria2-0", "libc-ares2", "libssh2-1"):
        own = ["--quiet", "--allow-overwrite=true", "--auto-file-renaming=false", "--file-allocation=none"]
        check = f"--checksum=sha-256={expect}"
        aria2 = [aria2c.name, *own, check, "-d", str(folder), "-o", dest.name, url]
        ways["aria2c"] = lambda: _run([str(aria2c), *aria2[1:]], aria2c)
    if rclone := _debian("rclone", "rclone"):
        ways["rclone"] = lambda: _run(["sh", "-ec", f"'{rclone}' copyurl '{url}' '{dest}'; {hashed}"])
    if obstore := _obstore():
        base, _, key = url.rpartition("/")
        ways["obstore"] = lambda: _run([*obstore, base, key, str(dest), expect])
    return _emptied(ways, dest)


def _from_minio(
    folder: Path, endpoint: str, access: str, secret: str, crc: str, *, verified: bool = True
) -> dict[str, Callable[[], object]]:
    """Who does not look at S3's checksum of the whole has it compared afterwards, when `verified`."""
    dest = folder / "dest"
    settings = {"endpoint_url": endpoint, "access_key": access, "secret_key": secret}
    boto3 = [sys.executable, "-c", _BOTO3, "get", "bench", "object", str(dest), endpoint, access, secret]
    signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "-u", f"{access}:{secret}"]
    ways: dict[str, Callable[[], object]] = {
        "curl": lambda: _run(["curl", "-sS", "-f", *signed, "-o", str(dest), f"{endpoint}/bench/object"]),
        "boto3": lambda: _run(boto3),
    }
    if rclone := _debian("rclone", "rclone"):
        remote = f":s3,provider=Minio,access_key_id={access},secret_access_key={secret},"
        remote += f"endpoint='{endpoint}':bench/object"
        ways["rclone"] = lambda: _run([str(rclone), "copyto", remote, str(dest)])
    if verified:
        ways = {name: _compared(way, dest, crc) for name, way in ways.items()}
        ways["reknit"] = lambda: _reknit("get", "s3://bench/object", str(dest), {"store": settings})
    if obstore := _obstore():
        place = ["s3://bench", "object", str(dest), crc if verified else "", endpoint, access, secret]
        ways["obstore"] = lambda: _run([*obstore, *place])
    return _emptied(ways, dest)


def _compared(way: Callable[[], object], dest: Path, crc: str) -> Callable[[], object]:
    def run() -> None:
        way()
        _run([sys.executable, "-c", _CRC64NVME, str(dest), crc])

    return run


def _emptied(ways: dict[str, Callable[[], object]], dest: Path) -> dict[str, Callable[[], object]]:
    """Each with a look at the size, and the file renamed: the next one finds none to write over."""

    def fresh(way: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            way()
            if dest.stat().st_size != GIB:
                raise SystemExit(f"bench: {dest.stat().st_size} bytes came")
            dest.replace(dest.with_name(_DONE))

        return run

    return {name: fresh(way) for name, way in ways.items()}


def _race(
    name: str,
    ways: dict[str, Callable[[], object]],
    rounds: int,
    goal: float = 1.0,
    done: Path | None = None,
) -> dict[str, Any]:
    """Seconds of each way, in turn; the first round warms up. `done` is the new file they write."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, run in ways.items():
            if done is not None:
                done.with_name(_DONE).unlink(missing_ok=True)  # by nobody's clock
            began = time.monotonic()
            run()
            if number:
                seconds[way].append(time.monotonic() - began)
    middle = {way: statistics.median(taken) for way, taken in seconds.items()}
    ours = middle.pop("reknit")
    return row(name, "s", ours, middle, min(middle.values()) / ours, goal)


def _reknit(way: str, one: str, other: str, options: dict[str, Any]) -> dict[str, Any]:
    done = _run([sys.executable, "-c", _REKNIT, way, one, other, json.dumps(options)])
    told: dict[str, Any] = json.loads(done.splitlines()[-1])
    return told


def _run(command: list[str], program: Path | None = None) -> str:
    """Its output; SystemExit when it fails. A program unpacked by us finds its libraries beside it."""
    # Debian's rclone stops at an authority of one's own; no way here needs one.
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    if program is not None and CACHE in program.parents:
        found = {str(lib.parent) for lib in program.parents[2].rglob("*.so.*")}
        environment["LD_LIBRARY_PATH"] = ":".join(sorted(found))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"bench: {command[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout


# -- what is installed -----------------------------------------------------------------------------------


def _debian(program: str, *packages: str) -> Path | None:
    """A program of Debian's, installed or unpacked below the cache; None, and said so, without."""
    if found := shutil.which(program):
        return Path(found)
    place = CACHE / program
    binary = place / "usr" / "bin" / program
    if not binary.exists() and shutil.which("apt-get"):
        place.mkdir(parents=True, exist_ok=True)
        for name in packages:
            subprocess.run(["apt-get", "download", "-q", name], cwd=place, capture_output=True)
        for package in place.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, place], check=True)
    if not binary.exists():
        say(f"{program} cannot be installed here: left out")
        return None
    return binary


def _obstore() -> list[str] | None:
    place = CACHE / "obstore"
    python = place / "bin" / "python"
    if not (place / "ready").exists():
        say("installing obstore …")
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        if subprocess.run([python, "-m", "pip", "install", "-q", *OBSTORE], capture_output=True).returncode:
            say("obstore cannot be installed here: left out")
            return None
        (place / "ready").touch()
    return [str(python), "-c", _OBSTORE]


# -- the servers -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _served() -> Iterator[tuple[Path, str]]:
    """A folder in memory, and the URL of a gibibyte below it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "www").mkdir()
        _write(folder / "www" / "object")
        with _nginx(folder) as url:
            yield folder, url


@contextlib.contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    port = free_port()
    with running(["nginx", "-c", str(nginx_config(folder, port)), "-p", str(folder)], port):
        yield f"http://127.0.0.1:{port}/object"


@contextlib.contextmanager
def _proxy(upstream: str, faults: list[str]) -> Iterator[str]:
    command = [*MIDSTREAM, "proxy", "--upstream", upstream]
    for line in faults:
        command += ["--fault", line]
    with running(command, stdout=subprocess.PIPE) as proxy:
        assert proxy.stdout
        yield proxy.stdout.readline().decode().strip()


@contextlib.contextmanager
def _minio(*, full: bool = True) -> Iterator[tuple[Path, str, str, str, str] | None]:
    """A folder in memory and MinIO with a bucket, its keys, and, when `full`, the CRC64NVME of a gibibyte."""
    import boto3
    from boto3.s3.transfer import TransferConfig

    from midstream._registry import load
    from midstream.stores._s3 import Keys

    member, keys = load("stores", "minio"), Keys("midstream", "midstream-secret")
    if not member.available().available:
        yield None
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder = Path(name)
        _write(folder / "source")
        store = member.start(folder / "minio")
        try:
            endpoint = f"http://127.0.0.1:{store.port}"
            client = boto3.client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=keys.access,
                aws_secret_access_key=keys.secret,
                region_name="us-east-1",
            )
            client.create_bucket(Bucket="bench")
            crc = ""
            if full:
                more = {"ChecksumAlgorithm": "CRC64NVME"}
                parts = TransferConfig(multipart_chunksize=64 << 20)
                source = str(folder / "source")
                client.upload_file(source, "bench", "object", ExtraArgs=more, Config=parts)
                (folder / "source").unlink()
                head = client.head_object(Bucket="bench", Key="object", ChecksumMode="ENABLED")
                crc = base64.b64decode(head["ChecksumCRC64NVME"]).hex()
            yield folder, endpoint, keys.access, keys.secret, crc
        finally:
            store.stop()


def _write(path: Path) -> None:
    with path.open("wb") as file:
        block = os.urandom(1 << 20)
        for number in range(GIB >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
