"""Servers and engines that do not come with this package, and the three ways to have one.

A part is **attached** to where `MIDSTREAM_<NAME>_URL` names one that runs already, else its **binary** is
started (from the cache that `midstream install NAME` fills, or on PATH), else its image is run by **docker**.
`find` says which of these it is here, or what to do about it; nobody else needs to know.
"""

from __future__ import annotations

import functools
import importlib
import ipaddress
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from midstream._errors import SetupError, UsageError
from midstream._registry import Availability

ALLOW_HOST = "MIDSTREAM_ALLOW_HOST"  # names of other machines that may be used, separated by commas
ASK_SECONDS = 10.0
DOCKER_SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True)
class GoModule:
    """A command that Go builds from a module: `package` at the part's version makes a file named `makes`."""

    package: str
    makes: str


@dataclass(frozen=True)
class GoSource:
    """A command that Go builds from source that comes with this package, below its `folder`."""

    folder: str
    makes: str


@dataclass(frozen=True)
class PythonPackage:
    """A command of a Python package, which goes into an environment of its own, with others beside it."""

    package: str
    besides: tuple[str, ...] = ()


@dataclass(frozen=True)
class DebianPackages:
    """A command that only the system's package manager can bring."""

    packages: str


@dataclass(frozen=True)
class Part:
    """What is known of a part. Versions are compared by their leading numbers."""

    id: str
    command: str
    recipe: GoModule | GoSource | PythonPackage | DebianPackages
    version: str = ""  # the one that is installed; "" where that is the system's choice
    least: tuple[int, ...] = ()
    below: tuple[int, ...] = ()
    probe: tuple[str, ...] = ("--version",)
    pattern: str = r"(\d+(?:\.\d+)+)"
    keys: bool = False  # an endpoint wants an access key and a secret
    image: str = ""  # "" where there is no public one
    entry: str = ""  # what the image is to run where its own entry point does more than that

    @property
    def hint(self) -> str:
        """The command that brings it."""
        if isinstance(self.recipe, DebianPackages):
            return f"apt-get install {self.recipe.packages}"
        return f"midstream install {self.id}"

    @property
    def shown(self) -> str:
        """The version that is installed, as a reader knows it."""
        date = re.match(r"v0\.0\.0-(\d{4})(\d{2})(\d{2})\d{6}-", self.version)
        return f"{date[1]}-{date[2]}-{date[3]}" if date else self.version.removeprefix("v")

    def suits(self, version: str) -> bool:
        """Whether a version is one that can be used; one that says nothing (a build from source) is."""
        numbers = tuple(map(int, re.findall(r"\d+", version)))
        if not numbers:
            return True
        return numbers >= self.least and (not self.below or numbers < self.below)


_PARTS = (
    Part(
        "minio",
        "minio",
        GoModule("github.com/minio/minio", "minio"),
        "v0.0.0-20250907161309-07c3a429bfed",  # the last open release; archived upstream
        least=(2024,),
        pattern=r"RELEASE\.(\d{4}-\d{2}-\d{2})|version (DEVELOPMENT\S*)",
        keys=True,
        image="minio/minio:RELEASE.2025-09-07T16-13-09Z",
        entry="minio",
    ),
    Part(
        "versitygw",
        "versitygw",
        GoModule("github.com/versity/versitygw/cmd/versitygw", "versitygw"),
        "v1.8.0",
        least=(1,),
        keys=True,
        image="versity/versitygw:v1.8.0",
    ),
    Part(
        "nginx",
        "nginx",
        DebianPackages("nginx-light"),
        least=(1, 20),
        probe=("-v",),
        pattern=r"nginx/(\d+(?:\.\d+)+)",
        image="nginx:1.28",
        entry="nginx",
    ),
    Part(
        "gridfs",
        "gridfs-server",
        GoSource("stores/_gridfs_server", "gridfs-server"),
        "v1.24.0",  # of FerretDB, which its go.mod pins
    ),
    Part(
        "tusd",  # the reference server of tus, which reknit's uploads are tried on; no store
        "tusd",
        GoModule("github.com/tus/tusd/v2/cmd/tusd", "tusd"),
        "v2.9.1",
        least=(2,),
        probe=("-version",),
        pattern=r"Version: v?(\d+(?:\.\d+)+)",  # one that is built from its module says n/a
    ),
    Part(
        "glance",
        "glance-manage",
        PythonPackage("glance", ("boto3", "python-swiftclient")),  # which its S3 and Swift stores use
        "33.0.0",
        least=(33,),
    ),
    Part(
        "toxiproxy",
        "toxiproxy-server",
        GoModule("github.com/Shopify/toxiproxy/v2/cmd/server", "server"),
        "v2.12.0",
        least=(2, 5),
        below=(3,),
        image="ghcr.io/shopify/toxiproxy:2.12.0",
    ),
    Part(
        "mitmproxy",
        "mitmdump",
        PythonPackage("mitmproxy"),
        "11.0.2",
        least=(11,),
        below=(12,),
        pattern=r"Mitmproxy: (\d+(?:\.\d+)+)",
        image="mitmproxy/mitmproxy:11.0.2",
        entry="mitmdump",
    ),
)
PARTS: Mapping[str, Part] = {part.id: part for part in _PARTS}
# What runs without being a part, and what its servers need.
SYSTEM: Mapping[str, str] = {
    "ceph": "apt-get install --no-install-recommends ceph-mon ceph-osd ceph-common python3-rbd python3-rados",
}


@dataclass(frozen=True)
class Found:
    """How a part can be had here: `what` is the URL, the file or the image; `how` is "" when it cannot."""

    part: str
    how: str = ""  # attach, binary, docker or ""
    what: str = ""
    version: str = ""
    reason: str = ""
    hint: str = ""
    env: Mapping[str, str] = field(default_factory=dict)  # of those that say how to attach

    def __bool__(self) -> bool:
        return bool(self.how)

    def availability(self) -> Availability:
        """The same, as members of a family say it."""
        if not self:
            return Availability(False, self.reason, self.hint)
        return Availability(version=self.version, how=f"{self.how} {self.what}")

    def require(self) -> Found:
        """Itself; raises SetupError with what to do when the part cannot be had."""
        if not self:
            raise SetupError(f"{self.part}: {self.reason}; {self.hint}")
        return self


class Machine(Protocol):
    """What `find` wants to know of the machine it runs on."""

    @property
    def env(self) -> Mapping[str, str]:
        """The environment."""

    def which(self, command: str) -> str | None:
        """The file PATH has for a command."""

    def runs(self, path: Path) -> bool:
        """Whether there is a file there that can be run."""

    def ask(self, command: Sequence[str]) -> str:
        """What a command prints, on either stream; "" when it does not end well in time."""

    def docker(self) -> str:
        """ "" when a docker daemon answers, else why none does."""


class ThisMachine:
    """The machine this runs on."""

    @property
    def env(self) -> Mapping[str, str]:
        return os.environ

    def which(self, command: str) -> str | None:
        # Debian has servers where PATH of a user does not lead.
        return shutil.which(command) or shutil.which(command, path="/usr/local/sbin:/usr/sbin:/sbin")

    def runs(self, path: Path) -> bool:
        return path.is_file() and os.access(path, os.X_OK)

    def ask(self, command: Sequence[str]) -> str:
        try:
            changed = Path(command[0]).stat().st_mtime_ns
        except OSError:
            return ""
        return _ask(tuple(command), changed)

    def docker(self) -> str:
        return _docker_answers()


@functools.cache
def _ask(command: tuple[str, ...], changed: int) -> str:
    """Asked once for each state of the file: `doctor` and every start want to know."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=ASK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


@functools.cache
def _docker_answers() -> str:
    if "DOCKER_HOST" not in os.environ and not DOCKER_SOCKET.exists():
        return "no docker daemon here"  # told without the import, which is slow
    try:
        client = docker_client()
        client.ping()
        client.close()
    except SetupError as error:
        return str(error)
    except Exception as error:  # of docker or of whatever it uses to get there
        return f"no docker daemon answers ({type(error).__name__})"
    return ""


def docker_client() -> Any:
    """A client of the docker daemon; raises SetupError without the SDK."""
    try:
        docker = importlib.import_module("docker")
    except ImportError:
        raise SetupError("the docker SDK is not installed; pip install 'midstream[docker]'") from None
    return docker.from_env(timeout=60)


THIS = ThisMachine()


def cache_folder(env: Mapping[str, str]) -> Path:
    """Where `midstream install` puts things."""
    base = env.get("XDG_CACHE_HOME") or str(Path(env.get("HOME") or Path.home()) / ".cache")
    return Path(base) / "midstream"


def installed_folder(part: Part, env: Mapping[str, str]) -> Path:
    """The folder of the version of a part that `midstream install` brings."""
    return cache_folder(env) / f"{part.id}-{part.version}"


def installed_command(part: Part, env: Mapping[str, str]) -> Path:
    return installed_folder(part, env) / "bin" / part.command


def part_named(name: str) -> Part:
    """Raises UsageError for a name that is no part's."""
    if name not in PARTS:
        raise UsageError(f"no part is called {name!r} (known: {', '.join(sorted({*PARTS, *SYSTEM}))})")
    return PARTS[name]


def variable(name: str, what: str) -> str:
    """The name of an environment variable about a part, or a store or engine that is none."""
    return f"MIDSTREAM_{name.upper().replace('-', '_')}_{what}"


def find(name: str, machine: Machine = THIS) -> Found:
    """How a part can be had here. Raises UsageError for a name that is no part's."""
    part = part_named(name)
    there = attached(part.id, ("ACCESS_KEY", "SECRET_KEY") if part.keys else (), machine.env)
    if there is not None:
        return there
    found, why = _binary(part, machine)
    if found:
        return found
    if part.image:
        lack = machine.docker()
        if not lack:
            return Found(part.id, "docker", part.image, part.image.rpartition(":")[2])
        why = f"{why}, and {lack}"
    return Found(part.id, reason=why, hint=part.hint)


def attached(
    name: str, keys: Sequence[str] = (), env: Mapping[str, str] | None = None, path: bool = False
) -> Found | None:
    """The one that runs already, when the environment names one; `keys` are what has to be told with it."""
    env = os.environ if env is None else env
    url = variable(name, "URL")
    if not env.get(url):
        return None
    try:
        endpoint = Endpoint.parse(url, env[url], path).permitted(url, env)
    except UsageError as error:
        reason, _, hint = str(error).partition("; ")
        return Found(name, reason=reason, hint=hint or f"set {url}=http://127.0.0.1:PORT")
    wanted = [variable(name, key) for key in keys]
    if absent := [each for each in wanted if not env.get(each)]:
        return Found(name, reason=f"{url} is set without {' and '.join(absent)}", hint=f"set {absent[0]}")
    return Found(name, "attach", endpoint.url, env={each: env[each] for each in wanted})


def _binary(part: Part, machine: Machine) -> tuple[Found | None, str]:
    """The binary that can be used, else why there is none."""
    own = installed_command(part, machine.env)
    if part.version and machine.runs(own):
        return Found(part.id, "binary", str(own), part.shown), ""
    path = machine.which(part.command)
    if not path:
        return None, f"{part.command} is neither on PATH nor installed by midstream"
    said = re.search(part.pattern, machine.ask((path, *part.probe)))
    version = next(filter(None, said.groups()), "") if said else ""
    if not part.suits(version):
        limit = f", below {'.'.join(map(str, part.below))}" if part.below else ""
        return (
            None,
            f"{path} is version {version}; {'.'.join(map(str, part.least))} or later{limit} is needed",
        )
    return Found(part.id, "binary", path, version), ""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens that somebody else runs."""

    scheme: str
    host: str
    port: int
    path: str = ""  # without a slash at its end

    @classmethod
    def parse(cls, variable: str, text: str, path: bool = False) -> Endpoint:
        """Raises UsageError, naming the variable, for anything but http(s)://HOST[:PORT]."""
        try:
            parts = urlsplit(text.strip())
            port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme, 0)
        except ValueError:
            parts, port = urlsplit(""), 0
        extra = "@" in parts.netloc or parts.query or parts.fragment
        if not port or not parts.hostname or extra or (parts.path.strip("/") and not path):
            raise UsageError(f"{variable}: not http://HOST:PORT; set it to the address of the server alone")
        return cls(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    def permitted(self, variable: str, env: Mapping[str, str]) -> Endpoint:
        """Itself; raises UsageError when it is on another machine that nobody has allowed."""
        allowed = {name.strip().lower() for name in env.get(ALLOW_HOST, "").split(",")}
        if not self.is_loopback and self.host.lower() not in allowed:
            raise UsageError(
                f"{variable}: {self.host} is not on this machine; set {ALLOW_HOST}={self.host} if it is yours"
            )
        return self
