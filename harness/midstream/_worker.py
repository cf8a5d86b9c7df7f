"""The process a Python driver runs in: `python -m midstream._worker DRIVER`.

Reads one job per line from standard input and answers each with one line on the descriptor it was started
with; what the driver prints goes to standard error. Ends when its input ends. Kept small: everything imported
here is start-up time of every run.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from typing import Any


def die_with_parent() -> None:
    """Linux: be killed when the harness is, so that nothing is left after kill -9 (prctl(2))."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError):
        pass


def traces() -> int:
    """Threads and sockets this process has; a driver that leaves more behind is dirty."""
    sockets = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
        except OSError:
            pass
    return threading.active_count() + sockets


def perform(driver: Any, raw: dict[str, Any]) -> dict[str, Any]:
    from midstream.drivers import Job

    job = Job.from_json(raw)
    before = dict(os.environ)
    os.environ.update(job.env)
    os.chdir(job.dest.parent)
    try:
        driver.download(job)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return {"said": "failed", "error": text[:2000], "internal": isinstance(error, ImportError)}
    finally:
        os.environ.clear()
        os.environ.update(before)
        os.chdir("/")
    return {"said": "ok"}


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a driver prints must not be taken for an answer
    from midstream.drivers._spec import resolve

    driver = resolve(sys.argv[1])
    answers.write(json.dumps({"ready": True}) + "\n")
    clean = None
    for line in sys.stdin:
        result = perform(driver, json.loads(line))
        now = traces()
        result["dirty"] = clean is not None and now > clean + 4
        clean = now if clean is None else clean
        answers.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
