"""What tidies up behind a run, however the run ended: `python -I -S _janitor.py FOLDER...`.

Its standard input ends when the harness has, be it by kill -9. Then every process whose HOME lies in one of
the run's folders is killed (drivers, and what they started, in whatever session) and the folders are removed.
It imports next to nothing, so that starting it costs as little as can be.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import time


def strays(folder: str) -> list[int]:
    """Processes of the run: HOME tells, since only drivers are given one in its folder."""
    found = []
    mark = f"HOME={folder}/".encode()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                with io.FileIO(f"/proc/{entry.name}/environ") as environ:
                    if any(line.startswith(mark) for line in environ.readall().split(b"\0")):
                        found.append(int(entry.name))
            except OSError:
                pass  # ended meanwhile, or of another user
    return found


def clean(folder: str) -> None:
    """Kill until nobody is left: what is killed may just have started another."""
    for _ in range(20):
        pids = strays(folder)
        if not pids:
            break
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
    for _ in range(50):  # a server that has just learnt the same may be removing its own part of it
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            break
        time.sleep(0.05)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    for folder in sys.argv[1:]:
        clean(folder)


if __name__ == "__main__":
    main()
