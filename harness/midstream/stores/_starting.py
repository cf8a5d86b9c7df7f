"""Starting the server of a member: what is missing, a folder of its own, the process in it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from midstream._errors import SetupError
from midstream._processes import ServerProcess
from midstream._registry import Availability


def installed(extra: str, package: str, modules: Sequence[str]) -> Availability:
    """Whether all modules a member needs can be imported; imports none of them."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        hint = f"pip install 'midstream[{extra}]'"
        return Availability(False, f"not installed: {', '.join(absent)}", hint)
    return Availability(version=package_version(package))


def package_version(package: str) -> str:
    """A package's version, or "" when it is not an installed one."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def require(name: str, availability: Availability) -> None:
    """Raise SetupError when a member cannot be used here."""
    if not availability.available:
        raise SetupError(f"{name}: {availability.reason}; {availability.hint}")


def own_folder(name: str, folder: Path) -> Path:
    """A new folder below `folder`, which the server and whoever stops it may remove."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder)).resolve()


def start(name: str, module: str, folder: Path, *options: str) -> ServerProcess:
    """Run `module` as the server that owns `folder`; the folder is removed when that fails."""
    try:
        arguments = ["-m", module, "--owned", str(folder), *options]
        return ServerProcess(name, arguments, folder / "log")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
