"""The compose files against the code and each other: versions, commands, names, and what is published."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from midstream._parts import PARTS, PythonPackage
from midstream._registry import load
from midstream.injectors.mitmproxy import PACKAGE, SCRIPT, command

PUBLISHED = {"minio", "swift", "origin", "nginx", "gridfs", "toxiproxy"}


def read(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((root / name).read_text(encoding="utf-8"))["services"]
    return found


@pytest.fixture(scope="session")
def services(root: Path) -> dict[str, Any]:
    return read(root, "docker-compose.yml")


def text(root: Path, name: str) -> str:
    return (root / name).read_text(encoding="utf-8")


def test_services(services: dict[str, Any]) -> None:
    """All of the topology is there; each under a profile of its name, pinned, and with a health check."""
    assert set(services) == PUBLISHED | {"mitmproxy", "midstream"}
    for name, service in services.items():
        assert {name, "all"} <= set(service["profiles"])
        assert re.search(r":\w*[.\d]+", service["image"]), "a version"
        assert "healthcheck" in service or name == "midstream"
        assert "ports" not in service


def test_versions(services: dict[str, Any], root: Path) -> None:
    """Images, and what is built in their place, are of the versions that the code names."""
    for name in ("minio", "nginx", "toxiproxy", "mitmproxy"):
        assert services[name]["image"] == PARTS[name].image
    version = tomllib.loads(text(root, "pyproject.toml"))["project"]["version"]
    assert services["midstream"]["image"] == services["origin"]["image"] == f"midstream:{version}"
    swift = re.search(r"swift==(\S+)", text(root, "docker/swift/Dockerfile"))
    assert swift
    assert services["swift"]["image"] == f"midstream-swift:{swift[1]}"
    assert f"swift=={swift[1]}" in text(root, "requirements-dev.lock")
    mitmproxy = PARTS["mitmproxy"]
    assert isinstance(mitmproxy.recipe, PythonPackage)
    assert f"{mitmproxy.recipe.package}=={mitmproxy.version}\n" in text(
        root, "docker/local/mitmproxy.Dockerfile"
    )
    bases = {re.findall(r"ARG BASE=(\S+)", p.read_text())[0] for p in root.glob("docker/**/*Dockerfile")}
    assert bases == {"debian:12.11-slim"}
    assert "base=debian:12.11-slim\n" in text(root, "tools/compose-test")


def test_images_name_the_parts() -> None:
    """The image of a part is of the version that is installed otherwise."""
    for part in PARTS.values():
        if part.image and part.version:
            assert part.shown in part.image.replace("v", ""), part.id


def test_on_loopback_only(root: Path) -> None:
    """Every port is published on 127.0.0.1, and on the host's network every service listens there."""
    override = read(root, "docker-compose.override.yml")
    assert set(override) == PUBLISHED
    for name, service in override.items():
        (port,) = service["ports"]
        assert re.fullmatch(rf"127\.0\.0\.1:\${{MIDSTREAM_{name.upper()}_PORT:-\d+}}:\d+", port)
    host = read(root, "docker-compose.host.yml")
    for service in host.values():
        assert service["network_mode"] == "host"
    assert "0.0.0.0" not in text(root, "docker-compose.host.yml")


def test_the_same_ports(root: Path, services: dict[str, Any]) -> None:
    """A service is at the same port of the host, published or by itself, and midstream looks for it there."""
    ports: dict[str, set[str]] = {}
    for file in ("docker-compose.override.yml", "docker-compose.host.yml"):
        for name, port in re.findall(r"\${MIDSTREAM_(\w+)_PORT:-(\d+)}", text(root, file)):
            ports.setdefault(name.lower(), set()).add(port)
    assert set(ports) == PUBLISHED | {"mitmproxy"}
    assert all(len(found) == 1 for found in ports.values())
    page = text(root, "docs/compose.md")
    env = read(root, "docker-compose.host.yml")["midstream"]["environment"]
    for name, (port,) in ports.items():
        assert f"127.0.0.1:{port}" in page
        assert f"MIDSTREAM_{name.upper()}_PORT:-{port}" in env[f"MIDSTREAM_{name.upper()}_URL"]
    assert set(env) == {name for name in services["midstream"]["environment"] if name.endswith("_URL")}


def test_midstream_can_attach(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stack's midstream is told is what stores and engines read: all are there, by attaching."""
    for name, value in services["midstream"]["environment"].items():
        monkeypatch.setenv(name, value)
    words = services["midstream"]["command"]
    for option, family in (("--store", "stores"), ("--injector", "injectors")):
        names = [after for before, after in itertools.pairwise(words) if before == option]
        assert names
        for name in names:
            here = load(family, name).available()
            assert here.available, (name, here.reason)
            assert (
                here.how == f"attach {services['midstream']['environment'][f'MIDSTREAM_{name.upper()}_URL']}"
            )


def test_mitmproxy_is_started_as_the_code_does(services: dict[str, Any]) -> None:
    """The same options and the same addon, from the package that is mounted."""
    service = services["mitmproxy"]
    mount, _, _ = service["volumes"][0].removeprefix("./harness/midstream:").partition(":")
    wanted = command("mitmdump", Path("/tmp/mitmproxy"))
    wanted[-1] = f"{mount}/{SCRIPT.relative_to(PACKAGE)}"
    assert [*service["entrypoint"], *service["command"]] == wanted


def test_the_page(pages: dict[str, str], services: dict[str, Any]) -> None:
    """docs/compose.md names every service with its image."""
    for name, service in services.items():
        assert re.search(
            rf"^\| `{name}` \| `{re.escape(service['image'])}`", pages["docs/compose.md"], re.MULTILINE
        )
