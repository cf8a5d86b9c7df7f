"""What ships with the package: the scenarios and the properties they ground."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from midstream._errors import SetupError, UsageError
from midstream._scenario import Loaded, load_text


@dataclass(frozen=True)
class Property:
    """A rule a correct client keeps. `level` is must or should."""

    id: str
    level: str
    text: str
    clause: str


def scenario_folder() -> Path:
    """Where scenarios are: in the package of a wheel, in the checkout of an editable install."""
    inside = Path(str(resources.files("midstream"))) / "scenarios"
    beside = Path(__file__).resolve().parents[2] / "scenarios"
    for folder in (inside, beside):
        if folder.is_dir():
            return folder
    raise SetupError("no scenarios found; the installation is incomplete: install midstream again")


def read_scenarios(paths: Iterable[Path]) -> list[Loaded]:
    """Load scenario files; raises UsageError naming file and key."""
    loaded: dict[str, Loaded] = {}
    for path in sorted(paths):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot be read: {error}") from None
        if path.stem in loaded:
            other = loaded[path.stem].source
            raise UsageError(f"{path}: {other} has this name, too, and the name is the id")
        loaded[path.stem] = load_text(path.stem, text, str(path))
    return [loaded[name] for name in sorted(loaded)]


@cache
def bundled() -> tuple[Loaded, ...]:
    """Every scenario that ships with the package."""
    return tuple(read_scenarios(scenario_folder().rglob("*.toml")))


@cache
def properties() -> tuple[Property, ...]:
    """P1 to P48."""
    raw = tomllib.loads(resources.files("midstream").joinpath("properties.toml").read_text(encoding="utf-8"))
    return tuple(Property(key, v["level"], v["text"], v["clause"]) for key, v in raw.items())
