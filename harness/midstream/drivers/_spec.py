"""Driver names as users give them: a member's id, `cmd:COMMAND`, `py:module:function` or, for a function that
uploads, `put:module:function`."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from midstream._errors import SetupError, UsageError
from midstream._registry import Availability, load, names
from midstream.drivers import KINDS, CommandDriver, Driver, Job, PythonDriver

PLACEHOLDERS = ("url", "dest", "native", "kind", "idle_timeout", "range", "source", "size")
# A name in single braces. Doubled braces are those of the command, and so is what has a sign before it: a
# variable of the shell (${name}), or of curl's --write-out (%{name}).
_BRACES = re.compile(r"\{\{(?P<literal>[a-z_]+)\}\}|(?<![$%{])\{(?P<name>[a-z_]+)\}")
_AWK = frozenset(
    {"print", "next", "nextfile", "exit", "getline"}
)  # its blocks that look like a name in braces


class Command(CommandDriver):
    """Any command line; `{url}` and `{dest}` or `{source}` are filled in, credentials in its environment."""

    kinds: ClassVar[frozenset[str]] = KINDS

    def __init__(self, spec: str) -> None:
        self.id = spec
        self.summary = "a command line of yours"
        try:
            words = shlex.split(spec.removeprefix("cmd:"))
        except ValueError as error:
            raise UsageError(f"--driver {spec!r}: {error}") from None
        if not words:
            raise UsageError("--driver 'cmd:': there is no command behind the colon")
        used = _placeholders(spec)
        self.parts, self.sizes = "range" in used, "size" in used
        fetches, sends = "dest" in used, "source" in used
        if fetches == sends:
            wrong = (
                "has both {dest} and {source}" if fetches else "has no {dest}, so its result cannot be found"
            )
            hint = "{dest} is for one that downloads, {source} for one that uploads"
            raise UsageError(f"--driver {spec!r}: the command {wrong}; {hint}")
        self.directions = frozenset({"upload" if sends else "download"})
        # The command runs in the folder of its result; a path is meant from where the user stands.
        self._words = [str(Path(w).absolute()) if "/" in w and Path(w).is_file() else w for w in words]
        self._program = words[0]

    def available(self) -> Availability:
        found = shutil.which(self._words[0])
        if not found:
            return Availability(
                False,
                f"the command {self._program!r} does not exist or cannot be executed",
                "check PATH, spelling and permissions",
            )
        return Availability(version=self.version(), how=found)

    def command(self, job: Job) -> list[str]:
        idle = f"{job.idle_timeout:g}"
        last = "" if job.length is None else str(job.first + job.length - 1)
        size = "" if job.size is None else str(job.size)
        source = str(job.source or "")
        given = (job.url, str(job.dest), job.native, job.kind, idle, f"{job.first}-{last}", source, size)
        values = dict(zip(PLACEHOLDERS, given, strict=True))

        def fill(found: re.Match[str]) -> str:
            if literal := found["literal"]:
                return f"{{{literal}}}"
            return values.get(found["name"], found[0])

        return [_BRACES.sub(fill, word) for word in self._words]


def _placeholders(spec: str) -> set[str]:
    """Those that a command uses; raises UsageError for one that is not known."""
    found = {m["name"] for m in _BRACES.finditer(spec) if m["name"]} - _AWK
    for name in sorted(found - set(PLACEHOLDERS)):
        near = difflib.get_close_matches(name, PLACEHOLDERS, 1, 0.7)
        hint = (
            f"did you mean {{{near[0]}}}?"
            if near
            else f"for braces of the command's own write {{{{{name}}}}}"
        )
        known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
        raise UsageError(f"--driver {spec!r}: no placeholder {{{name}}}; {hint} (known: {known})")
    return found


class Function(PythonDriver):
    """A function of the user's that takes a `Job`: `py:MODULE:FUNCTION` or `py:FILE.py:FUNCTION`.

    With `put:` in place of `py:` it uploads.
    """

    kinds: ClassVar[frozenset[str]] = KINDS

    def __init__(self, spec: str) -> None:
        self.id = spec
        self.summary = "a Python function of yours"
        kind, _, place = spec.partition(":")
        self.directions = frozenset({"upload" if kind == "put" else "download"})
        self._module, _, self._name = place.rpartition(":")
        if not self._module or not self._name:
            raise UsageError(
                f"--driver {spec!r}: use {kind}:MODULE:FUNCTION, as in {kind}:mypackage.store:function"
            )
        self._is_file = self._module.endswith(".py")

    def available(self) -> Availability:
        if self._is_file:
            found = Path(self._module).is_file()
        else:
            try:
                found = importlib.util.find_spec(self._module) is not None
            except Exception:  # looking for a.b runs the code of a
                found = False
        if found and not self._is_defined():
            return Availability(False, f"{self._module} defines no {self._name!r}", "check the spelling")
        if found:
            return Availability()
        what = f"no file {self._module!r}" if self._is_file else f"no module {self._module!r} can be imported"
        return Availability(False, what, "check PYTHONPATH and spelling")

    def _is_defined(self) -> bool:
        """Whether the source mentions the name at its top level, found out without running it."""
        if self._is_file:
            path: str | None = self._module
        else:
            spec = importlib.util.find_spec(self._module)
            path = spec.origin if spec else None
        if path is None or not path.endswith(".py"):
            return True  # no source to look at: loading will tell
        try:
            tree = ast.parse(Path(path).read_bytes())
        except (OSError, SyntaxError, ValueError):
            return True
        stars = any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(tree))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {getattr(n, "name", "") for n in ast.walk(tree)}
        names |= {
            a.asname or a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
        }
        # Names made when the module runs are in no source.
        return stars or self._name in names or bool(names & {"__getattr__", "globals"})

    def load(self) -> None:
        """Find the function before the first job; raises ImportError or AttributeError."""
        if self._is_file:
            module = _load_file(Path(self._module).resolve())
        else:
            module = importlib.import_module(self._module)
        self._function: Callable[[Job], Any] = getattr(module, self._name)

    def download(self, job: Job) -> None:
        self._function(job)

    def upload(self, job: Job) -> None:
        self._function(job)


def _load_file(path: Path) -> ModuleType:
    """The module in a file, with what it imports from beside it; raises ImportError."""
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, name = root.parent, f"{root.name}.{name}"
    sys.path.insert(0, str(root))
    if "." in name:  # of a package: it may import by way of that
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(name, module)
    spec.loader.exec_module(module)
    return module


def resolve(spec: str) -> Driver:
    """The driver a user names; raises UsageError for an unknown one."""
    if spec.startswith("cmd:"):
        return Command(spec)
    if spec.startswith(("py:", "put:")):
        return Function(spec)
    if spec not in names("drivers") and " " in spec:
        raise UsageError(f"--driver {spec!r}: for a command line write 'cmd:{spec}'")
    driver: Driver = load("drivers", spec)
    return driver


def require(driver: Driver) -> Availability:
    """The driver's availability; raises SetupError with the hint when it cannot be used."""
    availability = driver.available()
    if not availability.available:
        raise SetupError(f"driver {driver.id}: {availability.reason}; {availability.hint}")
    return availability
