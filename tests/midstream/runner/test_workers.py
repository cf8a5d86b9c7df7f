"""Driver processes: whatever a driver does, the harness learns it in time and is not hurt."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from midstream._errors import HarnessError
from midstream._processes import Janitor
from midstream._verdict import Outcome
from midstream._workers import OneShot, WarmWorker, clean_environment, describe_exit, process_for
from midstream.drivers import CommandDriver, Job
from midstream.drivers._spec import resolve

CULPRITS = Path(__file__).with_name("culprits.py")
LONG = 60.0  # a deadline that nobody is meant to meet
SHORT = 0.4  # one that is meant to pass


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def job(tmp_path: Path) -> Job:
    folder = tmp_path / "sink"
    folder.mkdir()
    return Job(folder / "object", "http", "http://127.0.0.1:1/o", "http://127.0.0.1:1/o")


class Warm:
    """Makes workers and ends them with the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.made: list[WarmWorker] = []

    def __call__(self, name: str) -> WarmWorker:
        self.made.append(WarmWorker(f"py:{CULPRITS}:{name}", self.home))
        return self.made[-1]


@pytest.fixture
def warm(home: Path) -> Iterator[Warm]:
    made = Warm(home)
    yield made
    for worker in made.made:
        worker.close()


def gone(pid: int) -> bool:
    """Whether a process ends soon; bounded, and woken by its end."""
    try:
        psutil.Process(pid).wait(10)
    except psutil.NoSuchProcess:
        return True
    except psutil.TimeoutExpired:
        return False
    return True


def without_time(outcome: Outcome) -> tuple[str, str]:
    return outcome.said, outcome.error


@pytest.mark.parametrize(
    ("name", "said", "error"),
    [
        ("returns", "ok", ""),
        ("raises", "failed", "ValueError: a value\nover two lines"),
        ("raises_the_unprintable", "failed", "Odd"),
        ("raises_half_a_character", "failed", "OSError: file \udcff and \x00 and \x1b[31m"),
        ("is_cancelled", "failed", "CancelledError: "),
        ("exits_well", "ok", ""),
        ("exits_badly", "failed", "exit status no luck"),
        ("shouts", "failed", "OSError: the end"),
        ("dies_quietly", "crash", "exit status 7"),
        ("dies_of_a_signal", "crash", "killed by SIGKILL: last words"),
        ("leaves_a_child_and_dies", "crash", "killed by SIGKILL"),
        ("closes_its_input", "ok", ""),
        ("runs_on_in_its_child", "ok", ""),
        ("leaks_threads", "ok", ""),
        ("leaks_sockets", "ok", ""),
    ],
)
def test_what_a_python_driver_says(warm: Warm, job: Job, name: str, said: str, error: str) -> None:
    """The same again in the job after, whether the process is the same or a fresh one."""
    worker = warm(name)
    for _ in range(3):
        outcome = worker.run(job, LONG)
        assert without_time(outcome) == (said, error)
        assert outcome.seconds < LONG


@pytest.mark.parametrize("name", ["spins", "sleeps", "ignores_sigterm"])
def test_hang(warm: Warm, job: Job, name: str) -> None:
    """A driver that does not come back is killed at its deadline, and the next job gets a fresh process."""
    worker = warm(name)
    for _ in range(2):
        outcome = worker.run(job, SHORT)
        assert without_time(outcome) == ("hang", "no end after 0.4 s")
        assert outcome.seconds >= SHORT
        assert worker.pid is None


def test_import_error_in_a_job(warm: Warm, job: Job) -> None:
    """A library that is missing is our set-up, not a failure of the driver."""
    with pytest.raises(HarnessError, match="a_package_that_is_not_there"):
        warm("imports_what_is_not_there").run(job, LONG)


def test_no_such_function(warm: Warm, job: Job) -> None:
    """A driver that cannot be loaded is a harness error that says why, each time it is asked for."""
    worker = warm("no_such_function")
    for _ in range(2):
        with pytest.raises(
            HarnessError, match=r"its process did not start: AttributeError: .*no_such_function"
        ):
            worker.run(job, LONG)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('not today')", "SystemExit: not today"),
        ("1 +", "SyntaxError"),
        ("import os; os._exit(3)", "no sign of life"),
        ("import os; os.write(2, b'boom\\n'); os._exit(3)", "boom"),
    ],
)
def test_import_error_at_the_start(tmp_path: Path, home: Path, job: Job, code: str, text: str) -> None:
    """Whatever happens while a driver's module is imported happens before any job."""
    module = tmp_path / "broken.py"
    module.write_text(code)
    worker = WarmWorker(f"py:{module}:f", home)
    with pytest.raises(HarnessError, match=text):
        worker.run(job, LONG)
    worker.close()


@pytest.mark.parametrize("name", ["leaves_a_child", "leaks_threads", "leaks_sockets", "runs_on_in_its_child"])
def test_dirty(warm: Warm, job: Job, name: str) -> None:
    """A process that a driver left something running in is not used again."""
    worker = warm(name)
    for _ in range(2):
        assert worker.run(job, LONG).said == "ok"
        if not name.startswith("leaks"):
            assert worker.pid is None


def test_threads_of_the_first_job(warm: Warm, job: Job) -> None:
    """Thirty threads are no library's usual ones, be it the first job that starts them."""
    worker = warm("leaks_threads")
    worker.run(job, LONG)
    assert worker.pid is None


def test_child_does_not_outlive(warm: Warm, job: Job) -> None:
    """A process that a driver forked ends with its worker."""
    warm("leaves_a_child").run(job, LONG)
    assert gone(int(job.dest.read_text()))


def test_clean_process_is_kept(warm: Warm, job: Job) -> None:
    """Starting a process per case would cost more than the case."""
    worker = warm("tells_its_surroundings")
    pids = set()
    for _ in range(3):
        worker.run(job, LONG)
        pids.add(job.dest.read_text().split()[-1])
    assert pids == {str(worker.pid)}


def test_input_is_empty(warm: Warm, job: Job) -> None:
    """A driver that reads its standard input does not read our jobs."""
    worker = warm("reads_its_input")
    for _ in range(2):
        assert worker.run(job, LONG).said == "ok"
        assert job.dest.read_text() == "''"


def test_surroundings_do_not_leak(home: Path, job: Job, tmp_path: Path) -> None:
    """Working folder and environment are those of the job, whatever the job before did to them."""
    both = tmp_path / "both.py"
    both.write_text(
        f"import sys; sys.path.insert(0, {str(CULPRITS.parent)!r})\n"
        "import culprits\n"
        "def both(job):\n"
        "    culprits.tells_its_surroundings(job); culprits.changes_its_surroundings(job)\n"
    )
    worker = WarmWorker(f"py:{both}:both", home)
    said = []
    for _ in range(2):
        assert worker.run(job, LONG).said == "ok"
        said.append(job.dest.read_text())
    assert said[0] == said[1] == f"{job.dest.parent} None True {worker.pid}"
    worker.close()


def test_worker_that_died_idle(warm: Warm, job: Job) -> None:
    """A process that something killed between two jobs says nothing about the second."""
    worker = warm("returns")
    for _ in range(3):
        assert worker.run(job, LONG).said == "ok"
        assert worker.pid
        os.kill(worker.pid, 9)
        assert worker.run(job, LONG).said == "ok"


def test_kill_from_another_thread(warm: Warm, job: Job) -> None:
    """Ctrl-C ends a running job at once, and no other is begun."""
    worker = warm("sleeps")
    outcomes: list[Outcome] = []

    def work() -> None:
        try:
            outcomes.append(worker.run(job, LONG))
        except HarnessError:
            pass  # it had not begun yet

    lane = threading.Thread(target=work)
    lane.start()
    while not worker._ready:  # the job is on its way
        lane.join(0.01)
    worker.kill()
    lane.join(10)
    assert not lane.is_alive()
    assert not outcomes or outcomes[0].said == "crash"
    with pytest.raises(HarnessError, match="the run has ended"):
        worker.run(job, LONG)


# --- command lines


def command(script: str, home: Path) -> OneShot:
    driver = resolve(f"cmd:sh -c {script!r} sh {{dest}} {{url}}")
    assert isinstance(driver, CommandDriver)
    return OneShot(driver, home)


@pytest.mark.parametrize(
    ("script", "said", "error"),
    [
        ("exit 0", "ok", ""),
        ("exit 3", "failed", "exit status 3"),
        ("echo one >&2; echo two >&2; exit 22", "failed", "exit status 22: two"),
        ("kill -SEGV $$", "crash", "killed by SIGSEGV"),
        ("echo bye >&2; kill -9 $$", "crash", "killed by SIGKILL: bye"),
        ("sleep 1000 & exit 4", "failed", "exit status 4"),
        ("exec 2>&-; exit 5", "failed", "exit status 5"),
        ("yes | head -c 3000000 >&2; echo last >&2; exit 6", "failed", "exit status 6: last"),
        ("yes | head -c 3000000; exit 0", "ok", ""),
        ("cat; exit 0", "ok", ""),
    ],
)
def test_what_a_command_says(home: Path, job: Job, script: str, said: str, error: str) -> None:
    """Its exit status is its word; what it leaves in the background keeps nobody waiting."""
    outcome = command(script, home).run(job, LONG)
    assert without_time(outcome) == (said, error)


@pytest.mark.parametrize(
    "script", ["sleep 1000", "trap : TERM; while :; do sleep 1000; done", "exec 2>&-; sleep 1000"]
)
def test_command_hangs(home: Path, job: Job, script: str) -> None:
    """A command is killed at its deadline."""
    assert without_time(command(script, home).run(job, SHORT)) == ("hang", "no end after 0.4 s")


def test_noise_from_the_background(home: Path, job: Job) -> None:
    """A child that fills the pipe for ever does not keep its parent's end from being seen."""
    outcome = command("yes >&2 & exit 8", home).run(job, LONG)
    assert outcome.said == "failed"
    assert outcome.error.startswith("exit status 8")


def test_background_children_are_killed(home: Path, job: Job) -> None:
    """What a command left running does not see the next case."""
    command('sleep 1000 & echo $! > "$1"', home).run(job, LONG)
    assert gone(int(job.dest.read_text()))


def test_environment_of_a_command(home: Path, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the case are there; the user's own accounts and proxies are not."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "HTTP_PROXY", "http_proxy", "OS_PASSWORD"):
        monkeypatch.setenv(name, "mine")
    given = replace(job, env={"AWS_ACCESS_KEY_ID": "theirs"}, idle_timeout=1.5)
    command('env > "$1"', home).run(given, LONG)
    lines = dict(line.split("=", 1) for line in job.dest.read_text().splitlines() if "=" in line)
    assert lines["AWS_ACCESS_KEY_ID"] == "theirs"
    assert lines["MIDSTREAM_IDLE_TIMEOUT"] == "1.5"
    assert not {"AWS_PROFILE", "HTTP_PROXY", "http_proxy", "OS_PASSWORD"} & set(lines)
    assert lines["NO_PROXY"] == "*"
    assert lines["HOME"].startswith(str(home))
    assert lines["PWD"] == str(job.dest.parent)


def test_home_of_a_command_is_fresh(home: Path, job: Job) -> None:
    """What a client keeps at home neither helps nor hurts the next case, and does not stay."""
    shot = command('test -e "$HOME/state" && exit 9; touch "$HOME/state" "$TMPDIR/t"', home)
    for _ in range(2):
        assert shot.run(job, LONG).said == "ok"
    assert not list(home.iterdir())


def test_command_that_cannot_be_executed(tmp_path: Path, home: Path, job: Job) -> None:
    """No verdict comes from a program that never ran."""
    text = tmp_path / "program"
    text.write_text("no program at all")
    text.chmod(0o755)
    driver = resolve(f"cmd:{text} {{dest}}")
    assert isinstance(driver, CommandDriver)
    with pytest.raises(HarnessError, match="cannot run it: Exec format error"):
        OneShot(driver, home).run(job, LONG)
    text.unlink()
    with pytest.raises(HarnessError, match="cannot run it: No such file"):
        OneShot(driver, home).run(job, LONG)


def test_no_command_after_the_end(home: Path, job: Job) -> None:
    """A run that is over starts nothing."""
    shot = command("exit 0", home)
    shot.kill()
    with pytest.raises(HarnessError, match="the run has ended"):
        shot.run(job, LONG)


def test_descriptors_are_freed(home: Path, job: Job, warm: Warm) -> None:
    """Ten thousand cases must not run out of descriptors."""
    shot, dying = command("exit 0", home), warm("dies_quietly")
    for _ in range(2):
        shot.run(job, LONG)
        dying.run(job, LONG)
    descriptors = psutil.Process().num_fds
    before = descriptors()
    for _ in range(5):
        shot.run(job, LONG)
        dying.run(job, LONG)
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("code", "tail", "text"),
    [
        (0, b"", "exit status 0"),
        (-11, b"a\n b \n\n", "killed by SIGSEGV: b"),
        (-250, b"", "killed by signal 250"),
    ],
)
def test_describe_exit(code: int, tail: bytes, text: str) -> None:
    """How a process ended, in words, with its own last ones."""
    assert describe_exit(code, tail) == text


def test_process_kinds(tmp_path: Path) -> None:
    """Each process has a home of its own below the run's folder."""
    one = process_for(resolve("cmd:true {dest}"), tmp_path)
    two = process_for(resolve(f"py:{CULPRITS}:returns"), tmp_path)
    assert isinstance(one, OneShot)
    assert isinstance(two, WarmWorker)
    assert len(list(tmp_path.glob("home-*"))) == 2
    one.close()
    two.close()
    assert clean_environment(tmp_path)["TMPDIR"] == str(tmp_path)


def test_janitor(tmp_path: Path) -> None:
    """It ends what carries the run's HOME, in whatever session, and nothing else; then removes the folder."""
    folder = tmp_path / "run"
    (folder / "home-1").mkdir(parents=True)
    code = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
    stray = psutil.Popen(code, env={"HOME": f"{folder}/home-1"}, start_new_session=True)
    other = psutil.Popen(code, env={"HOME": f"{folder}-2/home-1"}, start_new_session=True)
    Janitor(folder).close()
    assert stray.wait(10) == -9
    assert other.poll() is None
    other.kill()
    other.wait(10)
    assert not folder.exists()
