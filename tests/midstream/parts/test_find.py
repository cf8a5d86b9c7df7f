"""How a part is found, on machines that exist in memory only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from midstream._errors import SetupError, UsageError
from midstream._parts import PARTS, Endpoint, ThisMachine, find

CACHE = "/c/midstream"
MINIO = f"{CACHE}/minio-v0.0.0-20250907161309-07c3a429bfed/bin/minio"


@dataclass
class Machine:
    """A machine with an environment, files, commands on PATH, what they say, and perhaps docker."""

    env: Mapping[str, str] = field(default_factory=lambda: {"HOME": "/h", "XDG_CACHE_HOME": "/c"})
    path: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[str] = ()
    says: Mapping[str, str] = field(default_factory=dict)
    lack: str = "no docker daemon here"
    asked: int = 0

    def which(self, command: str) -> str | None:
        return self.path.get(command)

    def runs(self, path: Path) -> bool:
        return str(path) in self.files

    def ask(self, command: Sequence[str]) -> str:
        return self.says.get(" ".join(command), "")

    def docker(self) -> str:
        self.asked += 1
        return self.lack


def attached(**env: str) -> Machine:
    return Machine(env={f"MIDSTREAM_MINIO_{name}": value for name, value in env.items()})


def test_nothing() -> None:
    """What is not there is named, with the command that brings it."""
    for name, hint in (("minio", "midstream install minio"), ("nginx", "apt-get install nginx-light")):
        found = find(name, Machine())
        assert not found
        assert PARTS[name].command in found.reason
        assert "no docker daemon here" in found.reason
        assert found.hint == hint
        assert not found.availability().available
        with pytest.raises(SetupError, match=f"{name}: .*; {hint}"):
            found.require()


def test_in_the_cache() -> None:
    """What was installed is found without being asked for its version, before what PATH has."""
    machine = Machine(path={"minio": "/bin/minio"}, files=[MINIO])
    found = find("minio", machine).require()
    assert (found.how, found.what, found.version) == ("binary", MINIO, "2025-09-07")
    assert found.availability().how == f"binary {MINIO}"
    assert machine.asked == 0


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"XDG_CACHE_HOME": "/c"}, "/c"),
        ({"HOME": "/h"}, "/h/.cache"),
        ({"HOME": "/h", "XDG_CACHE_HOME": ""}, "/h/.cache"),
    ],
)
def test_where_the_cache_is(env: dict[str, str], folder: str) -> None:
    """The cache is where the user keeps such things."""
    command = f"{folder}/midstream/versitygw-v1.8.0/bin/versitygw"
    assert find("versitygw", Machine(env=env, files=[command])).what == command


@pytest.mark.parametrize(
    ("name", "command", "said", "version"),
    [
        ("nginx", "nginx -v", "nginx version: nginx/1.22.1\n", "1.22.1"),
        (
            "minio",
            "minio --version",
            "minio version RELEASE.2025-09-07T16-13-09Z (commit-id=0)\n",
            "2025-09-07",
        ),
        ("minio", "minio --version", "minio version DEVELOPMENT.GOGET (commit-id=x)\n", "DEVELOPMENT.GOGET"),
        ("toxiproxy", "toxiproxy-server --version", "toxiproxy-server version 2.12.0\n", "2.12.0"),
        ("toxiproxy", "toxiproxy-server --version", "toxiproxy-server version git\n", ""),
        ("mitmproxy", "mitmdump --version", "Mitmproxy: 11.0.2\nPython: 3.11.7\n", "11.0.2"),
        ("versitygw", "versitygw --version", "Version  : git\n", ""),
    ],
)
def test_on_path(name: str, command: str, said: str, version: str) -> None:
    """A command on PATH says its version itself; one built from source may have none to say."""
    word = command.split()[0]
    machine = Machine(path={word: f"/bin/{word}"}, says={f"/bin/{command}": said})
    found = find(name, machine)
    assert (found.how, found.what, found.version) == ("binary", f"/bin/{word}", version)


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("nginx", "nginx -v", "nginx version: nginx/1.18.0"),
        ("minio", "minio --version", "minio version RELEASE.2021-01-01T00-00-00Z"),
        ("toxiproxy", "toxiproxy-server --version", "toxiproxy-server version 2.1.4"),
        ("mitmproxy", "mitmdump --version", "Mitmproxy: 12.1.0"),
        ("mitmproxy", "mitmdump --version", "Mitmproxy: 10.4.2"),
    ],
)
def test_wrong_version(name: str, command: str, said: str) -> None:
    """A version that does not suit is named, and what to do; docker is still a way."""
    word = command.split()[0]
    machine = Machine(path={word: f"/bin/{word}"}, says={f"/bin/{command}": said})
    found = find(name, machine)
    assert not found
    assert f"/bin/{word} is version " in found.reason
    assert " or later" in found.reason
    assert found.hint == PARTS[name].hint
    machine.lack = ""
    assert find(name, machine).how == ("docker" if PARTS[name].image else "")


def test_docker() -> None:
    """Without a binary, an image in a daemon that answers."""
    found = find("minio", Machine(lack=""))
    assert (found.how, found.version) == ("docker", "RELEASE.2025-09-07T16-13-09Z")


def test_attach() -> None:
    """A server that is named is used, whatever else there is."""
    machine = attached(URL="http://127.0.0.1:9000/", ACCESS_KEY="a", SECRET_KEY="s")
    machine.files = [MINIO]
    found = find("minio", machine)
    assert (found.how, found.what) == ("attach", "http://127.0.0.1:9000")
    assert list(found.env.values()) == ["a", "s"]
    assert "s" not in found.availability().how.split()


def test_attach_without_keys() -> None:
    """A server to attach to needs both keys; the missing one is named."""
    found = find("minio", attached(URL="http://127.0.0.1:9000", ACCESS_KEY="a"))
    assert not found
    assert "MIDSTREAM_MINIO_SECRET_KEY" in found.reason


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9000",
        "ftp://a",
        "http://",
        "http://a:b@127.0.0.1",
        "http://h:x",
        "http://127.0.0.1/p",
        "http://[",
        "x",
    ],
)
def test_attach_to_nonsense(url: str) -> None:
    """A bad address is an answer, not a crash of `doctor`."""
    found = find("minio", attached(URL=url, ACCESS_KEY="a", SECRET_KEY="s"))
    assert not found
    assert found.reason.startswith("MIDSTREAM_MINIO_URL")
    assert found.hint


def test_attach_elsewhere() -> None:
    """Another machine has to be allowed by its name."""
    machine = attached(URL="http://store.example:9000", ACCESS_KEY="a", SECRET_KEY="s")
    found = find("minio", machine)
    assert not found
    assert "store.example is not on this machine" in found.reason
    assert "MIDSTREAM_ALLOW_HOST=store.example" in found.hint
    machine.env = {**machine.env, "MIDSTREAM_ALLOW_HOST": "other, STORE.example"}
    assert find("minio", machine).what == "http://store.example:9000"


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost", True),
        ("http://127.1.2.3:1", True),
        ("http://[::1]:8", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example", False),
    ],
)
def test_loopback(url: str, loopback: bool) -> None:
    """Only addresses of this machine count as its own."""
    assert Endpoint.parse("X", url).is_loopback is loopback


def test_endpoint() -> None:
    """An endpoint is read in full and written in its shortest form."""
    assert Endpoint.parse("X", "https://Host/a/b/", path=True) == Endpoint("https", "host", 443, "/a/b")
    assert Endpoint.parse("X", "http://[::1]:80").url == "http://[::1]:80"


def test_no_such_part() -> None:
    """An unknown part is refused with those that are known."""
    with pytest.raises(UsageError, match=r"no part is called 'mino' .*minio"):
        find("mino", Machine())


def test_this_machine(tmp_path: Path) -> None:
    """A command is asked once for each state of its file, and one that fails or hangs says nothing."""
    here = ThisMachine()
    command = tmp_path / "command"
    command.write_text("#!/bin/sh\necho x >> $0.asked\necho version 1.2\n")
    assert not here.runs(command)
    assert here.ask([str(command)]) == ""
    command.unlink()
    command.write_text("#!/bin/sh\necho x >> $0.asked\necho version 1.2\n")
    command.chmod(0o755)
    assert here.runs(command)
    assert here.ask([str(command), "-v"]) == "version 1.2\n"
    assert here.ask([str(command), "-v"]) == "version 1.2\n"
    assert (tmp_path / "command.asked").read_text() == "x\n"
    assert here.ask([str(tmp_path / "none")]) == ""
    assert here.which("no-such-command-anywhere") is None
