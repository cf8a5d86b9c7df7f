"""`midstream install`: bring a part into the cache, built from its published source.

Each version has a folder of its own there. It is made beside its place and renamed into it when it is whole,
so that a part is never half there, and two installs at once do no harm.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from midstream._errors import SetupError
from midstream._parts import (
    SYSTEM,
    THIS,
    DebianPackages,
    GoModule,
    GoSource,
    Machine,
    Part,
    PythonPackage,
    cache_folder,
    find,
    installed_command,
    installed_folder,
    part_named,
)

BUILD_SECONDS = 1800.0  # a minio takes two and a half minutes on two cores
Say = Callable[[str], None]


class Shell(Protocol):
    """Runs the commands that build; raises SetupError with the end of what a failing one printed."""

    def __call__(self, command: Sequence[str], env: Mapping[str, str]) -> None: ...


def run(command: Sequence[str], env: Mapping[str, str]) -> None:
    """Run a command with its output kept for the case that it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(env),
            timeout=BUILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"{command[0]}: not done after {BUILD_SECONDS:.0f} s") from None
    except OSError as error:
        raise SetupError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines()]
        told = [line for line in lines if line and "downloading" not in line]
        raise SetupError(f"{' '.join(command[:3])} failed: {' | '.join(told[-3:])[-600:]}")


def install(names: Sequence[str], say: Say, machine: Machine = THIS, shell: Shell = run) -> None:
    """Install parts, in order, and tell about each.

    Raises UsageError for a name that is no part's, before anything is done, and SetupError for what cannot be
    installed from here.
    """
    for name in names:
        if name not in SYSTEM:
            part_named(name)
    for name in names:
        if name in SYSTEM:
            raise SetupError(f"{name}: comes with the system, not from here; run: {SYSTEM[name]}")
        _install(part_named(name), say, machine, shell)


def _install(part: Part, say: Say, machine: Machine, shell: Shell) -> None:
    if isinstance(part.recipe, DebianPackages):
        found = find(part.id, machine)
        if found.how != "binary":
            raise SetupError(f"{part.id}: comes with the system, not from here; run: {part.hint}")
        say(f"{part.id} {found.version} is there: {found.what}")
        return
    place, command = installed_folder(part, machine.env), installed_command(part, machine.env)
    if machine.runs(command):
        say(f"{part.id} {part.shown} is there: {command}")
        return
    cache = cache_folder(machine.env)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{part.id}-", dir=cache))
    except OSError as error:
        raise SetupError(f"{cache}: {error.strerror}; set XDG_CACHE_HOME to a folder of yours") from None
    try:
        if isinstance(part.recipe, (GoModule, GoSource)):
            _build_with_go(part, part.recipe, folder, say, machine, shell)
        else:
            _make_environment(part, part.recipe, folder, place, say, machine, shell)
        if not machine.runs(folder / "bin" / part.command):
            raise SetupError(f"{part.id}: the build made no {part.command}")
        folder.chmod(0o755)
        _move(folder, place, command, machine)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"installed {part.id} {part.shown}: {command}")


def _move(folder: Path, place: Path, command: Path, machine: Machine) -> None:
    """Put it into its place, unless someone else was quicker."""
    if place.exists() and not machine.runs(command):
        shutil.rmtree(place)  # damaged: what is whole has its command
    try:
        folder.rename(place)
    except OSError as error:
        if not machine.runs(command):
            raise SetupError(f"{place}: {error.strerror}") from None


def _build_with_go(
    part: Part, recipe: GoModule | GoSource, folder: Path, say: Say, machine: Machine, shell: Shell
) -> None:
    go = machine.which("go")
    if not go:
        raise SetupError(
            f"{part.id}: is built from source, and Go is not on PATH; get it (https://go.dev/doc/install) "
            f"or put a {part.command} on PATH"
        )
    if isinstance(recipe, GoModule):
        target, what = f"{recipe.package}@{part.version}", [f"{recipe.package}@{part.version}"]
    else:
        target, what = f"{part.id} {part.shown}", ["-C", str(Path(__file__).parent / recipe.folder), "."]
    say(f"building {target} (this can take some minutes)")
    shell([go, "install", *what], {**machine.env, "GOBIN": str(folder / "bin")})
    if recipe.makes != part.command:
        (folder / "bin" / recipe.makes).rename(folder / "bin" / part.command)


def _make_environment(
    part: Part, recipe: PythonPackage, folder: Path, place: Path, say: Say, machine: Machine, shell: Shell
) -> None:
    """A virtual environment whose scripts know the place it will have."""
    target = f"{recipe.package}=={part.version}"
    say(f"installing {target} into an environment of its own")
    shell([sys.executable, "-m", "venv", str(folder)], machine.env)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    shell([*pip, "install", "--quiet", "--no-compile", target, *recipe.besides], machine.env)
    for script in (folder / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        text = script.read_bytes()
        if bytes(folder) in text:
            script.write_bytes(text.replace(bytes(folder), bytes(place)))
