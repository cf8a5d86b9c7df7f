"""What every driver keeps to, whatever client it drives. Subclass `DriverContract` and name the driver:

    class TestMine(DriverContract):
        driver = "mine"
        store = "origin"       # one whose protocol it speaks

The driver runs through the harness itself, in its own process, against a real store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from midstream._campaign import Campaign, Matrix
from midstream._registry import Availability, load
from midstream._runner import Result
from midstream._scenario import load_text
from midstream._verdict import Verdict
from midstream.drivers import KINDS, CommandDriver, Driver, Job, PythonDriver
from midstream.drivers._spec import resolve

_NO_FAULT = """
requirement = "Without faults, the driver moves the object, whatever its size."
properties = ["P5"]
object.size = "{size}"
vary.size = [0, 1, "64KiB-1", "1MiB+1"]
expect.requests = 1000
"""
_NO_OBJECT = """
requirement = "A store that says no is a clean error, and nothing under the final name."
properties = ["P5"]
faults = ["*#* status@head:403"]
expect.outcome = "failure"
expect.requests = 1000
"""


class DriverContract:
    """Rules for drivers. `driver` is its name as on the command line, `store` one that it can drive."""

    driver: ClassVar[str]
    store: ClassVar[str] = "origin"

    @pytest.fixture
    def member(self) -> Driver:
        """The driver; the tests are skipped where it cannot run."""
        driver = resolve(self.driver)
        availability = driver.available()
        if not availability.available:
            pytest.skip(f"{availability.reason}; {availability.hint}")
        return driver

    def run(self, driver: Driver, text: str) -> list[Result]:
        """The results of a scenario, in each direction the driver goes."""
        store, injector = load("stores", self.store), load("injectors", "embedded")
        results: list[Result] = []
        for direction in sorted(driver.directions):
            loaded = load_text(direction, f'direction = "{direction}"\n{text}', "contract.toml")
            Campaign(Matrix([loaded], [(driver, "")], [store], [injector]), results.append, jobs=1).run()
        return results

    def test_says_who_it_is(self, member: Driver) -> None:
        """It has a name, a sentence, the protocols it speaks and a version in text."""
        assert member.id == self.driver
        assert member.summary
        assert member.kinds
        assert member.kinds <= KINDS
        assert load("stores", self.store).kind in member.kinds
        assert isinstance(member.version(), str)
        assert member.directions
        assert member.directions <= {"download", "upload"}

    def test_availability(self, member: Driver) -> None:
        """It answers whether it can run here without starting anything."""
        found = member.available()
        assert isinstance(found, Availability)
        assert found.available or (found.reason and found.hint)

    def test_kind(self, member: Driver, tmp_path: Path) -> None:
        """It is Python that is called or a command that is run; a command has its destination or source."""
        assert isinstance(member, PythonDriver | CommandDriver)
        if isinstance(member, CommandDriver):
            url, source = "http://127.0.0.1:1/o", tmp_path / "source"
            job = Job(tmp_path / "object", "http", url, url, source=source)
            words = member.command(job)
            assert words
            assert all(isinstance(word, str) for word in words)
            place = job.dest if "download" in member.directions else source
            assert any(str(place) in word for word in words)

    def test_delivers(self, member: Driver) -> None:
        """Without faults it moves objects of any size, byte for byte, and leaves nothing else."""
        for result in self.run(member, _NO_FAULT):
            assert result.judgement.verdict is Verdict.PASS, (result.case.id, result.judgement)

    def test_fails_cleanly(self, member: Driver) -> None:
        """An answer that is not the object is an error, in words, with nothing under the final name."""
        for result in self.run(member, _NO_OBJECT):
            assert result.judgement.verdict is Verdict.CLEAN_FAILURE, (result.case.id, result.judgement)
            assert result.outcome.error


def job_fields() -> dict[str, Any]:
    """A job as a worker gets it, for tests of drivers alone."""
    return Job(Path("/nowhere/object"), "http", "http://h/o", "http://h/o", {"A": "b"}, 1.5).as_json()
