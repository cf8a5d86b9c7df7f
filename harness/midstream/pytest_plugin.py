"""The pytest plugin: scenarios as tests of your own driver.

    import pytest

    @pytest.fixture
    def midstream_driver():
        return download          # def download(job): fetch job.url to job.dest, or raise

Every selected scenario becomes a test beside the fixture: `midstream[cut-mid-body[at=1]@origin]`. The driver
is a module-level function that takes a `midstream.drivers.Job`, or a driver name as the command line has it
(`"cmd:curl -o {dest} {url}"`). It runs in a process of its own, so it is given by name, never as a closure.

A test fails when the driver broke a MUST; a SHOULD that it broke is a warning, `BrokenShould`.

An uploader is a fixture `midstream_uploader`: its function sends `job.source` to `job.url`.

For tests written by hand there are `midstream_store` (a running store) and `midstream_inject` (a faulty
address for it).
"""

from __future__ import annotations

import inspect
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from midstream.injectors import Session
    from midstream.stores import RunningStore

DRIVER_FIXTURE = "midstream_driver"
UPLOADER_FIXTURE = "midstream_uploader"
DIRECTIONS = {DRIVER_FIXTURE: "download", UPLOADER_FIXTURE: "upload"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("midstream", "fault-injection conformance of store drivers")
    group.addoption(
        "--midstream-store", action="append", metavar="ID", help="store to test against (default: origin)"
    )
    group.addoption(
        "--midstream-scenario", action="append", metavar="GLOB", help="scenarios to run (default: all)"
    )
    group.addoption(
        "--midstream-quick", action="store_true", help="one case of each of the most telling scenarios"
    )
    group.addoption("--midstream-injector", default="embedded", metavar="ID", help="injector to use")
    group.addoption("--midstream-seed", type=int, default=0, metavar="N", help="seed of sampled offsets")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "midstream: a scenario of the midstream suite")
    options = ("--midstream-store", "--midstream-scenario")
    if any(config.getoption(o) for o in options) or config.getoption("--midstream-injector") != "embedded":
        _matrix(config)  # what cannot be is said before anything is collected, and once


def _usage(error: Exception) -> pytest.UsageError:
    return pytest.UsageError(f"midstream: {error}")


def _matrix(config: pytest.Config) -> Any:
    """The selected cases, driver left open; computed once per session."""
    from midstream import _session
    from midstream._errors import MidstreamError

    made = getattr(config, "_midstream_matrix", None)
    if made is None:
        try:
            made = _session.matrix(
                config.getoption("--midstream-scenario") or [],
                [],
                config.getoption("--midstream-store") or ["origin"],
                [config.getoption("--midstream-injector")],
                config.getoption("--midstream-seed"),
                quick=config.getoption("--midstream-quick"),
            )
        except MidstreamError as error:
            raise _usage(error) from None
        config._midstream_matrix = made  # type: ignore[attr-defined]
    return made


def pytest_collection_finish(session: pytest.Session) -> None:
    """A forgotten fixture must not look like a run without findings."""
    asked = session.config.getoption("--midstream-store") or session.config.getoption("--midstream-scenario")
    ours = {"midstream_store", "midstream_inject"}
    used = any(
        item.get_closest_marker("midstream") or ours.intersection(getattr(item, "fixturenames", ()))
        for item in session.items
    )
    if asked and not used:
        text = f"midstream: no scenario runs, since no test module defines the fixture {DRIVER_FIXTURE}"
        warnings.warn(pytest.PytestWarning(text), stacklevel=1)


def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> list[pytest.Item] | None:
    """A module or class that defines the driver fixture gets every selected scenario as a test."""
    if name not in DIRECTIONS:
        return None
    from midstream._scenario import applies

    matrix = _matrix(collector.config)
    items: list[pytest.Item] = []
    for store in matrix.stores:
        for loaded in matrix.scenarios:
            if not applies(loaded, store.id, store.kind) or loaded.model.direction != DIRECTIONS[name]:
                continue
            for variant in matrix.variants(loaded):
                shown = f"{loaded.id}[{variant.name}]" if variant.values else loaded.id
                item = pytest.Function.from_parent(
                    collector,
                    name=f"midstream[{shown}@{store.id}]",
                    callobj=_test(loaded, variant, store, name),
                )
                item.add_marker(pytest.mark.midstream)
                items.append(item)
    return items


def _test(loaded: Any, variant: Any, store: Any, fixture: str) -> Callable[..., None]:
    # The first parameter is for pytest: without one of its kind it takes the first name of a class's function
    # for `self`.
    def fetch(_: None = None, /, *, midstream_driver: Any, _midstream_bench: Bench) -> None:
        _midstream_bench.check(midstream_driver, loaded, variant, store, "py")

    def send(_: None = None, /, *, midstream_uploader: Any, _midstream_bench: Bench) -> None:
        _midstream_bench.check(midstream_uploader, loaded, variant, store, "put")

    run = send if fixture == UPLOADER_FIXTURE else fetch
    run.__doc__ = loaded.model.requirement
    return run


def driver_spec(given: object, kind: str = "py") -> str:
    """The name of a driver fixture's value; raises UsageError when it has none a process could find it by."""
    if isinstance(given, str):
        return given
    module, qualified = getattr(given, "__module__", None), getattr(given, "__qualname__", "")
    if not callable(given) or not module or not qualified.isidentifier():
        raise pytest.UsageError(
            f"midstream: the fixture {DRIVER_FIXTURE} gave {given!r}; it must give a function defined at the "
            "top of a module, or a driver's name such as 'cmd:curl -o {dest} {url}'"
        )
    try:
        source = Path(inspect.getsourcefile(given) or "")
    except TypeError:  # built in
        return f"{kind}:{module}:{qualified}"
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    if source.suffix != ".py" or any(source.is_relative_to(path) for path in installed):
        return f"{kind}:{module}:{qualified}"
    # Of this project: the worker does not have the import paths that pytest has set up here.
    return f"{kind}:{source.resolve()}:{qualified}"


class Bench:
    """Places, controls and driver processes for one pytest process (one per xdist worker)."""

    def __init__(self, config: pytest.Config) -> None:
        from midstream._grounds import Grounds

        self.matrix = _matrix(config)
        self.injector = self.matrix.injectors[0]
        self.grounds = Grounds({self.injector.id: self.injector})
        self._processes: dict[str, Any] = {}
        self._drivers: dict[str, tuple[Any, str]] = {}

    def check(self, given: object, loaded: Any, variant: Any, store: Any, kind: str) -> None:
        """Run one case; fail the test with verdict, diagnosis and replay line."""
        from midstream._errors import MidstreamError
        from midstream._runner import Case
        from midstream._workers import process_for
        from midstream.drivers._spec import require, resolve

        spec = driver_spec(given, kind)
        try:
            if spec not in self._drivers:
                driver = resolve(spec)
                self._drivers[spec] = (driver, require(driver).version)
                self._processes[spec] = process_for(driver, self.grounds.folder)
            driver, version = self._drivers[spec]
            if store.kind not in driver.kinds:
                pytest.skip(f"{driver.id} does not drive {store.kind} stores")
            if loaded.model.direction not in driver.directions:
                pytest.skip(f"{driver.id} does not {loaded.model.direction}")
            case = Case(loaded, variant, driver, version, store, self.injector.id, self.matrix.seed)
            result = self.grounds.run(case, self._processes[spec])
        except MidstreamError as error:
            raise _usage(error) from None
        judgement = result.judgement
        text = (
            f"{judgement.verdict}: {judgement.diagnosis}\n{loaded.model.requirement}\nreplay: {case.replay}"
        )
        if judgement.level == "harness":
            raise HarnessTrouble(text)
        if judgement.verdict in ("not_applicable", "not_reached"):
            pytest.skip(text)
        if judgement.breaks_must:
            pytest.fail(text, pytrace=False)
        if judgement.level == "should":
            warnings.warn(BrokenShould(text), stacklevel=1)

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        self.grounds.close()


class BrokenShould(UserWarning):
    """A driver broke a SHOULD: its test passes, as `midstream run` ends with 0 then, but not in silence.

    `-W error::midstream.pytest_plugin.BrokenShould` makes it a failure.
    """


class HarnessTrouble(Exception):
    """The harness failed; nothing is said about the driver."""


@pytest.fixture(scope="session")
def _midstream_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    bench = Bench(request.config)
    yield bench
    bench.close()


@pytest.fixture(scope="session")
def midstream_store(_midstream_bench: Bench) -> RunningStore:
    """A running store: the first `--midstream-store`, or origin. See `midstream.stores.RunningStore`."""
    bench = _midstream_bench
    return bench.grounds.place(bench.matrix.stores[0], bench.injector.id).running


@pytest.fixture
def midstream_inject(
    _midstream_bench: Bench, midstream_store: RunningStore
) -> Iterator[Callable[..., Session]]:
    """`midstream_inject("GET#1 cut@1000:rst", ...)` gives a session whose `url` is a faulty address of the
    store; `session.close()` gives the evidence. Sessions end with the test.
    """
    from midstream._schedule import Schedule
    from midstream.injectors import Plan

    bench = _midstream_bench
    store = bench.matrix.stores[0]
    open_sessions: list[Session] = []

    def inject(*faults: str, object_size: int | None = None) -> Session:
        place = bench.grounds.place(store, bench.injector.id)
        plan = Plan(
            midstream_store.upstream,
            Schedule.parse(faults),
            store.operation,
            object_size,
            listen_port=midstream_store.listen_port,
            raw=store.raw,
            path=midstream_store.path,
        )
        open_sessions.append(place.injector.open(plan))
        return open_sessions[-1]

    yield inject
    for session in open_sessions:
        session.close()
