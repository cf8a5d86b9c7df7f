"""What all measurements share: processes that end with them, and the row of the table."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"
MIDSTREAM = [sys.executable, "-m", "midstream"]
GIB = 1 << 30


def say(text: str) -> None:
    print(text, flush=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"bench: {process.args!r} ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise SystemExit(f"bench: nothing listens on {port}")


@contextlib.contextmanager
def running(command: list[str], port: int | None = None, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        if port:
            await_port(port, process)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def nginx_config(folder: Path, port: int) -> Path:
    temp = "\n".join(
        f"  {kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = f"""worker_processes 1; daemon off; error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; tcp_nopush on;
{temp}
  server {{ listen 127.0.0.1:{port}; root {folder}/www; }} }}
"""
    path = folder / "nginx.conf"
    path.write_text(text)
    return path


def timed(command: list[str], runs: int) -> float:
    seconds = []
    for number in range(runs + 1):
        started = time.monotonic()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        if number:
            seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


def row(
    name: str, unit: str, ours: float, others: dict[str, float], ratio: float, goal: float
) -> dict[str, Any]:
    return {
        "name": name,
        "unit": unit,
        "ours": round(ours, 3),
        "others": {k: round(v, 3) for k, v in others.items()},
        "ratio": round(ratio, 3),
        "goal": goal,
        "met": ratio >= goal,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
    }
