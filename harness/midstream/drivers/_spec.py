"""Driver names as users give them: a member's id, `cmd:COMMAND`, or `py:module:function`."""

from __future__ import annotations

import importlib
import importlib.util
import shlex
import shutil
from collections.abc import Callable
from typing import Any

from midstream._errors import SetupError, UsageError
from midstream._registry import Availability, load, names
from midstream.drivers import CommandDriver, Driver, Job, PythonDriver

PLACEHOLDERS = ("url", "dest", "native", "kind")


class Command(CommandDriver):
    """Any command line; `{url}` and `{dest}` are filled in, credentials are in its environment."""

    def __init__(self, spec: str) -> None:
        self.id = spec
        self.summary = "a command line of yours"
        try:
            self._words = shlex.split(spec.removeprefix("cmd:"))
        except ValueError as error:
            raise UsageError(f"--driver {spec!r}: {error}") from None
        if not self._words:
            raise UsageError("--driver 'cmd:': there is no command behind the colon")
        if not any("{dest}" in word for word in self._words):
            raise UsageError(f"--driver {spec!r}: the command has no {{dest}}, so its result cannot be found")

    def available(self) -> Availability:
        program = self._words[0]
        found = shutil.which(program)
        if not found:
            return Availability(False, f"the command {program!r} does not exist", "check PATH and spelling")
        return Availability(version=self.version(), how=found)

    def command(self, job: Job) -> list[str]:
        values = {"url": job.url, "dest": str(job.dest), "native": job.native, "kind": job.kind}
        words = []
        for word in self._words:
            for name, value in values.items():
                word = word.replace(f"{{{name}}}", value)
            words.append(word)
        return words


class Function(PythonDriver):
    """A function of the user's that takes a `Job`."""

    def __init__(self, spec: str) -> None:
        self.id = spec
        self.summary = "a Python function of yours"
        self._module, _, self._name = spec.removeprefix("py:").partition(":")
        if not self._module or not self._name:
            raise UsageError(f"--driver {spec!r}: use py:MODULE:FUNCTION, as in py:mypackage.store:download")

    def available(self) -> Availability:
        try:
            found = importlib.util.find_spec(self._module)
        except (ImportError, ValueError):
            found = None
        if found is None:
            return Availability(
                False, f"no module {self._module!r} can be imported", "check PYTHONPATH and spelling"
            )
        return Availability()

    def download(self, job: Job) -> None:
        function: Callable[[Job], Any] = getattr(importlib.import_module(self._module), self._name)
        function(job)


def resolve(spec: str) -> Driver:
    """The driver a user names; raises UsageError for an unknown one."""
    if spec.startswith("cmd:"):
        return Command(spec)
    if spec.startswith("py:"):
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
