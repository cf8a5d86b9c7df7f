"""Record the terminal session of the README: kill -9 in mid-transfer, run again, both ways, for real.

    python tools/record.py

Starts an S3 store and a slow line to it, types the commands into a shell, and puts what the terminal showed
between the markers of README.md. Exit status 1 when the bytes are not the object's.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from midstream._content import Content
from midstream.stores import Traits
from midstream.stores.moto import MEMBER as MOTO

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MARKERS = ("<!-- recorded by tools/record.py -->\n", "<!-- end of the recording -->")
SIZE = 96 << 20
# A line slow enough to be interrupted, and an answer that never comes.
FAULTS = ("GET#* throttle@0:40000000", "PUT#3 stall@head")
SESSION = (
    "reknit get s3://midstream/disk.raw disk.raw & sleep 1.5; kill -9 $!",
    "reknit resume .",
    "reknit get s3://midstream/disk.raw disk.raw",
    "reknit put disk.raw s3://midstream/copy.raw & sleep 1.5; kill -9 $!",
    "reknit put disk.raw s3://midstream/copy.raw",
)


def main() -> int:
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name), MOTO.start(Path(name) / "store")
        command = [scripts / "midstream", "proxy", "--upstream", f"http://127.0.0.1:{store.port}"]
        for fault in FAULTS:
            command += ["--fault", fault]
        line = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            store.put("disk.raw", Content(SIZE, 0), Traits())
            assert line.stdout
            access = store.access("disk.raw", line.stdout.readline().strip())
            home = folder / "home"
            home.mkdir()
            env = {**os.environ, **access.env, "PATH": f"{scripts}:{os.environ['PATH']}", "HOME": str(home)}
            shown = "".join(f"$ {command}\n{typed(command, home, env)}" for command in SESSION)
            wanted = hashlib.sha256(Content(SIZE, 0).read(0, SIZE)).hexdigest()
            got = hashlib.sha256((home / "disk.raw").read_bytes()).hexdigest()
            back = hashlib.sha256(store.read("copy.raw")).hexdigest()
        finally:
            line.send_signal(signal.SIGTERM)
            line.wait()
            store.stop()
    if {got, back} != {wanted}:
        print("record: the bytes are not the object's")
        return 1
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    README.write_text(f"{before}{MARKERS[0]}```\n{shown}```\n{MARKERS[1]}{after}", encoding="utf-8")
    print(shown, end="")
    return 0


def typed(command: str, home: Path, env: dict[str, str]) -> str:
    """What the terminal shows of a command; the shell's own word for a killed job has no path in it."""
    done = subprocess.run(
        ["bash", "-c", f"{command}\nwait 2>/dev/null; true"],
        cwd=home,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return re.sub(r"^bash: line \d+: +\d+ (Killed) +.*$", r"\1", done.stdout, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(main())
