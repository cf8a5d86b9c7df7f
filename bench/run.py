"""Side-by-side measurements: one run, one machine, ratios.

    python bench/run.py [--quick] [--only NAME ...]

Prints a table and writes bench/results.json. Needs nginx and curl; toxiproxy (built with Go) and mitmproxy
(in a virtual environment of its own) are installed below .cache/bench when they are not there, as are aria2c,
rclone and obstore. What cannot be installed is left out and said so. Absolute numbers of shared machines mean
little: read the ratios, and measure when nothing else runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transfers
from common import CACHE, GIB, MIDSTREAM, ROOT, free_port, nginx_config, row, running, say, timed

TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
MITMPROXY = "mitmproxy==11.0.2"


def toxiproxy() -> Path | None:
    found = shutil.which("toxiproxy-server")
    if found:
        return Path(found)
    binary = CACHE / "bin" / "server"
    if not binary.exists():
        if not shutil.which("go"):
            return None
        say("building toxiproxy …")
        environment = {**os.environ, "GOBIN": str(binary.parent), "GOFLAGS": "-mod=mod"}
        if subprocess.run(["go", "install", TOXIPROXY], env=environment, capture_output=True).returncode:
            return None
    return binary


def mitmdump() -> Path | None:
    binary = CACHE / "mitmproxy" / "bin" / "mitmdump"
    if not binary.exists():
        say("installing mitmproxy …")
        subprocess.run([sys.executable, "-m", "venv", binary.parent.parent], check=True)
        pip = [binary.parent / "pip", "install", "--quiet", MITMPROXY]
        if subprocess.run(pip, capture_output=True).returncode:
            return None
    return binary


def curl_speed(url: str) -> float:
    """Bytes per second of one GET by curl, its own figure."""
    out = subprocess.run(
        ["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{size_download} %{speed_download}", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if int(float(out[0])) != GIB:
        raise SystemExit(f"bench: {url} gave {out[0]} bytes")
    return float(out[1])


def socket_speed(url: str) -> float:
    """Bytes per second of one GET by a bare socket: cheap, so what stands before it is what is measured."""
    parts = urllib.parse.urlsplit(url)
    view = memoryview(bytearray(1 << 20))
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as sock:
        started = time.monotonic()
        request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        sock.sendall(request.encode())
        head, total = b"", 0
        while b"\r\n\r\n" not in head:
            if not (count := sock.recv_into(view)):
                raise SystemExit(f"bench: {url} ended in its head")
            head += view[:count]
        body = len(head) - head.index(b"\r\n\r\n") - 4
        while count := sock.recv_into(view):
            total += count
        seconds = time.monotonic() - started
    if body + total != GIB:
        raise SystemExit(f"bench: {url} gave {body + total} bytes")
    return GIB / seconds


def throughput(rounds: int) -> list[dict[str, Any]]:
    """1 GiB from nginx, a fault armed far away; each way once per round, in turn."""
    if not shutil.which("nginx") or not shutil.which("curl"):
        raise SystemExit("bench: nginx and curl are needed (Debian: apt-get install nginx-light curl)")
    with contextlib.ExitStack() as stack:
        # On a disk, as what nginx serves is, and read from its cache: there it may lie in larger pages.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        folder.chmod(0o755)
        (folder / "www").mkdir()
        with (folder / "www" / "object").open("wb") as file:
            block = os.urandom(1 << 20)
            for _ in range(1024):
                file.write(block)
        port = free_port()
        stack.enter_context(
            running(["nginx", "-c", str(nginx_config(folder, port)), "-p", str(folder)], port)
        )
        direct = f"http://127.0.0.1:{port}/object"
        ways: dict[str, str] = {"direct": direct}
        # Armed in every response, in the second gibibyte: never reached, always watched for.
        fault = ["--fault", f"GET#* cut@{2 * GIB}:rst"]
        command = [*MIDSTREAM, "proxy", "--upstream", f"http://127.0.0.1:{port}", *fault]
        proxy = stack.enter_context(running(command, stdout=subprocess.PIPE))
        assert proxy.stdout
        ways["midstream"] = proxy.stdout.readline().decode().strip() + "/object"
        if binary := toxiproxy():
            control, listen = free_port(), free_port()
            stack.enter_context(
                running(
                    [str(binary), "-host", "127.0.0.1", "-port", str(control)],
                    control,
                    stdout=subprocess.DEVNULL,
                )
            )
            body = {"name": "bench", "listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{port}"}
            toxic = {"name": "far", "type": "limit_data", "attributes": {"bytes": 2 * GIB}}
            for path, data in (("proxies", body), ("proxies/bench/toxics", toxic)):
                request = urllib.request.Request(
                    f"http://127.0.0.1:{control}/{path}", json.dumps(data).encode(), {"User-Agent": "bench"}
                )
                urllib.request.urlopen(request).close()
            ways["toxiproxy"] = f"http://127.0.0.1:{listen}/object"
        if binary := mitmdump():
            listen = free_port()
            command = [str(binary), "-q", "--mode", f"reverse:http://127.0.0.1:{port}", "--listen-host"]
            command += ["127.0.0.1", "-p", str(listen), "--set", "stream_large_bodies=1"]
            command += ["--set", f"confdir={folder / 'mitm'}"]
            stack.enter_context(running(command, listen, stdout=subprocess.DEVNULL))
            ways["mitmproxy"] = f"http://127.0.0.1:{listen}/object"
        clients = {"": socket_speed, ", curl": curl_speed}
        speeds: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):
            for client, fetch in clients.items():
                for name, url in ways.items():
                    speed = fetch(url)
                    if number:  # the first round warms up
                        speeds.setdefault((client, name), []).append(speed)
    goals = {"direct": 0.6, "toxiproxy": 2.0, "mitmproxy": 3.0}
    rows = []
    for client in clients:
        ours = statistics.median(speeds[client, "midstream"])
        for name, goal in goals.items():
            if (client, name) in speeds:
                other = statistics.median(speeds[client, name])
                title = f"1 GiB GET through the injector, against {name}{client}"
                # The goals are the injector's: what curl itself costs is shown beside them.
                wanted = 0 if client else goal
                rows.append(row(title, "GB/s", ours / 1e9, {name: other / 1e9}, ours / other, wanted))
    return rows


SCENARIO = """requirement = "A cut download is continued; one case of many for the benchmark."
kind = "must"
properties = ["P9"]
faults = ["get_object cut@{at}:rst"]
[vary]
at = "sample %d"
"""


def cases(folder: Path, count: int) -> tuple[float, list[int]]:
    """Run `count` one-cut cases; seconds taken, and the harness's resident KiB over time."""
    import psutil

    (folder / "scenarios").mkdir(exist_ok=True)
    per_file = 1_000  # as many scenarios as a large suite has; none of them long
    for old in (folder / "scenarios").glob("*.toml"):
        old.unlink()
    for number in range(max(1, count // per_file)):
        text = SCENARIO % min(count, per_file)
        (folder / "scenarios" / f"bench-{number:03}.toml").write_text(text)
    command = [*MIDSTREAM, "run", "--scenario-dir", str(folder / "scenarios"), "--store", "origin"]
    command += ["--driver", "reknit", "--out", str(folder / "out"), "-j", "2"]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watched, memory = psutil.Process(process.pid), []
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            memory.append(watched.memory_info().rss // 1024)
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit(f"bench: the cases ended with status {process.returncode}")
    return time.monotonic() - started, memory


def speed(quick: bool) -> list[dict[str, Any]]:
    count = 2_000 if quick else 10_000
    with tempfile.TemporaryDirectory() as name:
        seconds, _ = cases(Path(name), count)
    return [
        row(
            f"one-cut cases of 64 KiB on origin ({count:,})",
            "cases/s",
            count / seconds,
            {},
            count / seconds,
            300,
        )
    ]


def memory(quick: bool) -> list[dict[str, Any]]:
    count = 10_000 if quick else 100_000
    with tempfile.TemporaryDirectory() as name:
        _, samples = cases(Path(name), count)
    early = statistics.median(
        samples[max(1, len(samples) * 1_000 // count) : len(samples) * 2_000 // count + 2]
    )
    late = statistics.median(samples[-8:])
    return [
        row(
            f"resident memory after {count:,} cases against after 1,000",
            "MiB",
            late / 1024,
            {"after 1,000": early / 1024},
            early / late,
            0.9,
        )
    ]


def cold(quick: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "one.toml").write_text(SCENARIO % 1)
        command = [*MIDSTREAM, "run", "--scenario-dir", name, "--store", "origin", "--out", f"{name}/out"]
        seconds = timed(command, 3 if quick else 7)
    return [row("cold run of one case", "s", seconds, {}, 1.5 / seconds, 1.0)]


def suite(quick: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        command = [*MIDSTREAM, "run", "--driver", "reknit", "--out", f"{name}/out"]
        started = time.monotonic()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
    return [row("default suite, reknit on four stores", "s", seconds, {}, 90 / seconds, 1.0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and cases")
    measurements: dict[str, Callable[[bool], list[dict[str, Any]]]] = {
        "throughput": lambda quick: throughput(3 if quick else 7),
        "cold": cold,
        "speed": speed,
        "suite": suite,
        "memory": memory,
        "downloads": transfers.downloads,
        "cuts": transfers.cuts,
        "uploads": transfers.uploads,
        "resident": transfers.resident,
    }
    parser.add_argument("--only", nargs="*", choices=measurements, help="the measurements to make anew")
    given = parser.parse_args()
    path = ROOT / "bench" / "results.json"
    rows: list[dict[str, Any]] = []
    for name, measure in measurements.items():
        if given.only and name not in given.only:
            continue
        say(f"measuring {name} …")
        rows += measure(given.quick)
    if given.only and path.exists():
        fresh = {r["name"] for r in rows}
        rows = [r for r in json.loads(path.read_text()) if r["name"] not in fresh] + rows
    path.write_text(json.dumps(rows, indent=1) + "\n")
    width = max(len(r["name"]) for r in rows)
    say(f"\n{'':{width}}  {'ours':>10}  {'unit':<8} {'ratio':>8} {'goal':>6}")
    for r in rows:
        mark = "" if not r["goal"] else "met" if r["met"] else "NOT MET"
        figures = f"{r['ours']:>10,.3f}  {r['unit']:<8} {r['ratio']:>8.2f} {r['goal']:>6}"
        say(f"{r['name']:{width}}  {figures} {mark}")


if __name__ == "__main__":
    main()
