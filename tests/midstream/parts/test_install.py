"""`midstream install`: whole or not at all, once, and in words where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midstream._errors import SetupError, UsageError
from midstream._install import install, run
from midstream._parts import PARTS, ThisMachine, find


class Here(ThisMachine):
    """This machine with another cache, and Go where it is wanted."""

    def __init__(self, cache: Path, path: Mapping[str, str]) -> None:
        self._env = {"XDG_CACHE_HOME": str(cache), "PATH": "/nowhere"}
        self._path = path

    @property
    def env(self) -> Mapping[str, str]:
        return self._env

    def which(self, command: str) -> str | None:
        return self._path.get(command)

    def docker(self) -> str:
        return "no docker daemon here"


@dataclass
class Shell:
    """Builds what it is asked to, at once."""

    makes: Sequence[str] = ()
    fails: bool = False
    meanwhile: Path | None = None
    commands: list[list[str]] = field(default_factory=list)

    def __call__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.commands.append(list(command))
        if self.fails:
            raise SetupError("go install failed: no such module")
        folder = Path(env.get("GOBIN", command[-1] if "venv" in command else command[0]))
        folder = folder if "GOBIN" in env else folder / "bin" if "venv" in command else folder.parent
        for place in filter(None, (folder, self.meanwhile)):
            place.mkdir(parents=True, exist_ok=True)
            for name in self.makes:
                (place / name).write_text(f"#!{folder}/python\n")
                (place / name).chmod(0o755)


@pytest.fixture
def said() -> list[str]:
    return []


GO = {"go": "/usr/bin/go"}


@pytest.mark.parametrize(
    ("name", "made"), [("minio", "minio"), ("versitygw", "versitygw"), ("toxiproxy", "server")]
)
def test_with_go(tmp_path: Path, said: list[str], name: str, made: str) -> None:
    """Built at the pinned version, found afterwards, and not built again."""
    machine, shell = Here(tmp_path, GO), Shell([made])
    install([name], said.append, machine, shell)
    part = PARTS[name]
    (command,) = shell.commands
    assert command[:2] == ["/usr/bin/go", "install"]
    assert command[2].endswith(f"@{part.version}")
    found = find(name, machine).require()
    assert found.how == "binary"
    assert Path(found.what).name == part.command
    assert said[-1] == f"installed {name} {part.shown}: {found.what}"
    install([name], said.append, machine, shell)
    assert len(shell.commands) == 1
    assert said[-1] == f"{name} {part.shown} is there: {found.what}"
    assert [p.name for p in (tmp_path / "midstream").iterdir()] == [f"{name}-{part.version}"]


def test_environment(tmp_path: Path, said: list[str]) -> None:
    """The scripts of an environment know the place it is moved to."""
    machine, shell = Here(tmp_path, {}), Shell(["python", "mitmdump"])
    install(["mitmproxy"], said.append, machine, shell)
    found = find("mitmproxy", machine).require()
    assert Path(found.what).read_text() == f"#!{Path(found.what).parent}/python\n"
    assert shell.commands[-1][-1] == "mitmproxy==11.0.2"


def test_without_go(tmp_path: Path, said: list[str]) -> None:
    """Without Go nothing is begun, and what is missing is said."""
    with pytest.raises(SetupError, match="Go is not on PATH") as error:
        install(["minio"], said.append, Here(tmp_path, {}), Shell())
    assert error.value.exit_status == 2
    assert not list((tmp_path / "midstream").iterdir())


@pytest.mark.parametrize("shell", [Shell(fails=True), Shell([])])
def test_build_fails(tmp_path: Path, said: list[str], shell: Shell) -> None:
    """Nothing is left, and nothing is found."""
    machine = Here(tmp_path, GO)
    with pytest.raises(SetupError, match=r"no such module|made no minio"):
        install(["minio"], said.append, machine, shell)
    assert not list((tmp_path / "midstream").iterdir())
    assert not find("minio", machine)


def test_someone_was_quicker(tmp_path: Path, said: list[str]) -> None:
    """Two at once: the one that is later leaves the other's in its place."""
    place = tmp_path / "midstream" / f"versitygw-{PARTS['versitygw'].version}" / "bin"
    install(["versitygw"], said.append, Here(tmp_path, GO), Shell(["versitygw"], meanwhile=place))
    assert [p.name for p in (tmp_path / "midstream").iterdir()] == [place.parent.name]


def test_damaged(tmp_path: Path, said: list[str]) -> None:
    """A folder without its command is made anew."""
    place = tmp_path / "midstream" / f"versitygw-{PARTS['versitygw'].version}"
    (place / "bin").mkdir(parents=True)
    install(["versitygw"], said.append, Here(tmp_path, GO), Shell(["versitygw"]))
    assert (place / "bin" / "versitygw").exists()


@pytest.mark.parametrize(("name", "package"), [("nginx", "nginx-light"), ("ceph", "ceph-osd")])
def test_of_the_system(tmp_path: Path, said: list[str], name: str, package: str) -> None:
    """What only the system can bring is named, package and all."""
    with pytest.raises(SetupError, match=f"{name}: .*apt-get install .*{package}") as error:
        install([name], said.append, Here(tmp_path, GO), Shell())
    assert error.value.exit_status == 2


def test_nginx_that_is_there(tmp_path: Path, said: list[str]) -> None:
    """A server that is there is not installed again."""
    nginx = tmp_path / "nginx"
    nginx.write_text("#!/bin/sh\necho nginx version: nginx/1.22.1 >&2\n")
    nginx.chmod(0o755)
    install(["nginx"], said.append, Here(tmp_path, {"nginx": str(nginx)}), Shell())
    assert said == [f"nginx 1.22.1 is there: {nginx}"]


def test_unknown_name_first(tmp_path: Path, said: list[str]) -> None:
    """A name that is nobody's is found before anything is done."""
    shell = Shell(["minio"])
    with pytest.raises(UsageError, match="'mino'"):
        install(["minio", "mino"], said.append, Here(tmp_path, GO), shell)
    assert not shell.commands


def test_cache_cannot_be_written(tmp_path: Path, said: list[str]) -> None:
    """A cache that cannot be written is named by its variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="XDG_CACHE_HOME"):
        install(["minio"], said.append, Here(tmp_path / "file", GO), Shell(["minio"]))


def test_what_a_command_says_when_it_fails() -> None:
    """The end of its output, without the downloads."""
    run(["true"], {})
    with pytest.raises(SetupError, match=r"sh -c .* failed: one \| two$"):
        run(["/bin/sh", "-c", "echo go: downloading x; echo one; echo two >&2; exit 1"], {})
    with pytest.raises(SetupError, match="No such file"):
        run(["/no/such/command"], {})


@pytest.mark.parametrize(
    ("names", "status", "text"),
    [
        (["ceph"], 2, "apt-get install"),
        (["mino"], 2, "known: ceph, glance, gridfs, minio"),
        ([], 2, "install --help"),
    ],
)
def test_command(tmp_path: Path, names: list[str], status: int, text: str) -> None:
    """One line on standard error and status 2 for what cannot be installed from here."""
    done = subprocess.run(
        [sys.executable, "-m", "midstream", "install", *names],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_from_source_that_comes_along(tmp_path: Path, said: list[str]) -> None:
    """What is no module of its own is built from a folder of this package, its dependencies pinned there."""
    machine, shell = Here(tmp_path, GO), Shell(["gridfs-server"])
    install(["gridfs"], said.append, machine, shell)
    (command,) = shell.commands
    assert command[:3] == ["/usr/bin/go", "install", "-C"]
    source = Path(command[3])
    assert {"main.go", "go.mod", "go.sum"} <= {path.name for path in source.iterdir()}
    assert f"FerretDB {PARTS['gridfs'].version}" in (source / "go.mod").read_text()
    assert find("gridfs", machine).require().how == "binary"
