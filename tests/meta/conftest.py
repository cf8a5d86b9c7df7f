"""The checkout that these tests look at."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes some seconds")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def pages(root: Path) -> dict[str, str]:
    """Every page of prose, by its name."""
    paths = [*root.glob("*.md"), *root.glob("docs/*.md")]
    return {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in sorted(paths)}


@pytest.fixture(scope="session")
def tracked(root: Path) -> list[Path]:
    """What git has of the checkout, as far as it is there."""
    if not (root / ".git").exists():
        pytest.skip("no git checkout")
    names = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    found = [root / name for name in names.decode().split("\0") if name]
    return [path for path in found if path.is_file()]


@pytest.fixture(scope="session")
def tool(root: Path) -> Callable[[str], ModuleType]:
    """A script of tools/ as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"tools_{name}", root / "tools" / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
