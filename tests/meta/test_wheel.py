"""What is built is what is needed, and works where there is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with sdist and wheel, the wheel made from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def expected(root: Path) -> set[str]:
    """Every file of both packages, and the scenarios inside of one."""
    found = set()
    for folder, prefix in (("harness/midstream", "midstream"), ("reference/reknit", "reknit")):
        for path in (root / folder).rglob("*"):
            if path.is_file() and not {"__pycache__", ".mypy_cache"} & set(path.parts):
                found.add(f"{prefix}/{path.relative_to(root / folder)}")
    for path in (root / "scenarios").rglob("*"):
        if path.is_file():
            found.add(f"midstream/scenarios/{path.relative_to(root / 'scenarios')}")
    return found


def test_contents_of_the_wheel(root: Path, wheel: Path) -> None:
    """Code, scenarios, schema, properties, licence and entry points; no test and nothing ignored."""
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
        about = {n.split(".dist-info/")[1]: n for n in archive.namelist() if ".dist-info/" in n}
        points = archive.read(about["entry_points.txt"]).decode()
    assert names == expected(root)
    for name in ("midstream/scenarios/schema.json", "midstream/properties.toml"):
        assert name in names
    for name in ("midstream/py.typed", "reknit/py.typed"):
        assert name in names
    assert "licenses/LICENSE" in about
    for line in ("[pytest11]", "midstream = midstream.pytest_plugin", "reknit = reknit.__main__:main"):
        assert line in points


def test_contents_of_the_sdist(built: Path) -> None:
    """What a wheel is built from, with licence, readme and changelog; no test, no cache, nothing of ours."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "scenarios/schema.json"):
        assert name in names
    tops = {n.partition("/")[0] for n in names}
    ours = {"harness", "reference", "scenarios", "README.md", "CHANGELOG.md", "LICENSE"}
    assert tops == ours | {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert not [n for n in names if "__pycache__" in n or "_cache" in n]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with the dependencies but not the checkout of ours."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # A path in a .pth file is looked into for packages, not for further .pth files: the editable install of
    # the checkout stays out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return venv


def run(venv: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV", "VIRTUAL"))}
    return subprocess.run(
        [str(venv / "bin" / words[0]), *words[1:]],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_it_is_the_wheel(installed: Path, tmp_path: Path, root: Path) -> None:
    """The checkout cannot be imported there, nor seen."""
    code = "import midstream, reknit, sys; print(midstream.__file__, reknit.__file__, *sys.path, sep='\\n')"
    done = run(installed, tmp_path, "python", "-c", code)
    lines = done.stdout.split()
    assert lines[0].startswith(str(installed))
    assert lines[1].startswith(str(installed))
    assert not [p for p in lines if p in (str(root / "harness"), str(root / "reference"), str(root))]


def test_lists(installed: Path, tmp_path: Path, root: Path) -> None:
    """All scenarios and properties are there, and the schema."""
    done = run(installed, tmp_path, "python", "-m", "midstream", "list", "scenarios", "--json")
    assert done.returncode == 0, done.stderr
    ids = {row["id"] for row in json.loads(done.stdout)}
    assert ids == {p.stem for p in (root / "scenarios").rglob("*.toml")}
    properties = run(installed, tmp_path, "midstream", "list", "properties", "--json")
    assert len(json.loads(properties.stdout)) == 48
    schema = run(installed, tmp_path, "midstream", "schema")
    assert json.loads(schema.stdout) == json.loads(
        (root / "scenarios/schema.json").read_text(encoding="utf-8")
    )
    assert not list(tmp_path.iterdir())


def test_one_case(installed: Path, tmp_path: Path) -> None:
    """A case runs from an empty folder and leaves its report, and nothing else."""
    done = run(installed, tmp_path, "midstream", "run", "late-head", "--store", "origin", "-j", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["midstream-out"]
    results = json.loads((tmp_path / "midstream-out/results.json").read_text(encoding="utf-8"))
    assert [c["verdict"] for c in results["cases"]] == ["pass"]


def test_reknit(installed: Path, tmp_path: Path) -> None:
    """The client of the wheel fetches a file."""
    (tmp_path / "source").write_bytes(b"x" * 1000)
    done = run(installed, tmp_path, "reknit", "get", (tmp_path / "source").as_uri(), "copy", "--quiet")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "copy").read_bytes() == b"x" * 1000
