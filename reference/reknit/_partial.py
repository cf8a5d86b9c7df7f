"""Where a download lives until it is whole: a folder beside the destination, owned by one process at a time.

The folder holds `data` and `journal`, so that one atomic rename claims both. Its name says who owns it
(boot and process namespace, process, start of the process), so no lock is needed: flock does nothing on
some network file systems. A folder whose owner is gone, or that was left free, is claimed by renaming it:
exactly one claim wins. An owner on another machine cannot be asked; its folder is copied instead, and
removed when it stays untouched.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

DATA = "data"
JOURNAL = "journal"

_NAME = re.compile(r"\.(.+)\.reknit-(?:free-[0-9a-f]{8}|[0-9a-f]{8}-\d+-\d+-[0-9a-f]{8})", re.DOTALL)

# A running download writes, or gives up, well within this: attempts x (idle timeout + longest wait).
_ABANDONED = 3600.0


def create(dest: Path) -> Path:
    """A new empty folder of ours. Raises OSError."""
    path = _mine(dest)
    path.mkdir(mode=0o700)
    return path


def claim_all(dest: Path) -> Iterator[Path]:
    """Folders of earlier downloads to `dest`, each now ours."""
    prefix = _prefix(dest)
    for path in of(dest):
        claimed = _claim(path, path.name.removeprefix(prefix), _mine(dest))
        if claimed is not None:
            yield claimed


def of(dest: Path) -> Iterator[Path]:
    """The folders of downloads to `dest`, whoever's. Raises OSError."""
    prefix = _prefix(dest)
    with os.scandir(dest.parent) as entries:
        names = sorted(entry.name for entry in entries if entry.name.startswith(prefix))
    for name in names:
        yield dest.parent / name


def find(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every folder of a transfer in there, with the name of what it is for. Raises OSError."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    for name in names:
        if match := _NAME.fullmatch(name):
            yield folder / name, match[1]


def owner(path: Path) -> str:
    """Whose it is: nobody's (free), of a process that is gone or running, or of one elsewhere."""
    host, *process = path.name.rpartition(".reknit-")[2].split("-")
    if host == "free":
        return "free"
    if host != _host():
        return "elsewhere"
    return "running" if _alive(process) else "gone"


def remove(path: Path) -> bool:
    """Remove it, unless somebody works on it: claimed first, so that nobody goes on with half of it."""
    prefix, _, named = path.name.rpartition(".reknit-")
    if owner(path) == "elsewhere":
        if not _abandoned(path):
            return False
        discard(path)
        return True
    claimed = _claim(path, named, path.with_name(f"{prefix}.reknit-{_us()}"))
    if claimed is None:
        return False
    discard(claimed)
    return True


def release(path: Path, dest: Path) -> Path:
    """Leave the folder to whoever comes next, this process included. Raises OSError."""
    free = dest.parent / f"{_prefix(dest)}free-{secrets.token_hex(4)}"
    path.rename(free)
    return free


def discard(path: Path) -> None:
    """Remove the folder; what cannot be removed stays."""
    try:
        for part in path.iterdir():
            part.unlink()
        path.rmdir()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def _claim(path: Path, owner: str, mine: Path) -> Path | None:
    host, *process = owner.split("-")
    try:
        if host == "free" or (host == _host() and not _alive(process)):
            path.rename(mine)
            return mine
        if host == _host():
            return None
        shutil.copytree(path, mine)
        if _abandoned(path):
            discard(path)
    except (OSError, shutil.Error, ValueError):
        discard(mine)  # another claim was faster
        return None
    return mine


def _prefix(dest: Path) -> str:
    name = dest.name
    if len(os.fsencode(name)) > 150:  # the suffix must fit into NAME_MAX, too
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}.reknit-"


def _mine(dest: Path) -> Path:
    return dest.parent / f"{_prefix(dest)}{_us()}"


def _us() -> str:
    pid = os.getpid()
    return f"{_host()}-{pid}-{_started(pid)}-{secrets.token_hex(4)}"


def _abandoned(path: Path) -> bool:
    return time.time() - touched(path) > _ABANDONED


def touched(path: Path) -> float:
    """When it was last written to, in epoch seconds. Raises OSError."""
    return max((part.stat().st_mtime for part in path.iterdir()), default=path.stat().st_mtime)


def _alive(process: list[str]) -> bool:
    pid, started = int(process[0]), process[1]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # Else the number has been given to another process; and one that was killed keeps its number until its
    # parent has taken note, which in a container may be never.
    return _started(pid) == started and _facts(pid)[0] not in ("Z", "X")


def _started(pid: int) -> str:
    """When the process began, in clock ticks since boot; "0" where /proc does not tell."""
    return _facts(pid)[1]


def _facts(pid: int) -> tuple[str, str]:
    """Its state (proc(5)), and when it began."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", "0"


@lru_cache(maxsize=1)
def _host() -> str:
    """Where process numbers mean the same: this boot of this machine, in this process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, space = os.uname().nodename, ""
    return f"{zlib.crc32((boot + space).encode()):08x}"
