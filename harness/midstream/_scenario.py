"""Scenarios: data files that say what goes wrong and what a correct driver does about it.

One TOML file is one scenario; its stem is its id. Models are strict: an unknown key or a wrong type is an
error that names the file, the key and what is allowed. A scenario is a template: `vary` lists values for the
names in braces, and each combination is one case.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from midstream._errors import UsageError
from midstream._explain import explain
from midstream._model import BRACES, Scenario, parse_size
from midstream._operations import KINDS
from midstream._plan import offsets
from midstream._registry import added, names
from midstream._schedule import Schedule

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True)
class Variant:
    """One concrete choice of a scenario's `vary` values."""

    scenario: str
    values: tuple[tuple[str, str], ...]
    size: int
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        return ";".join(f"{k}={_escape(v)}" for k, v in self.values)


def _escape(value: str) -> str:
    """A value within a variant's name, where a semicolon separates values."""
    return re.sub(r"%(?=25|3B)", "%25", value).replace(";", "%3B")


def parse_values(name: str) -> dict[str, str]:
    """Read a variant's name back."""
    pairs = (part.partition("=") for part in name.split(";") if part)
    return {k: re.sub("%(25|3B)", lambda f: "%" if f[1] == "25" else ";", v) for k, _, v in pairs}


@dataclass(frozen=True)
class Loaded:
    """A scenario with its id and the file it came from."""

    id: str
    model: Scenario
    source: str

    def variants(self, seed: int) -> Iterator[Variant]:
        """Every case of the scenario; the same for the same seed."""
        m = self.model
        names = sorted(m.vary)
        columns = [self._values(name, seed) for name in names]
        for combination in itertools.product(*columns):
            yield self.variant(dict(zip(names, combination, strict=True)))

    def variant(self, values: Mapping[str, str]) -> Variant:
        """One case by its values; raises UsageError for a name the scenario does not vary."""
        keys = set(self.model.vary)
        unknown, missing = sorted(set(values) - keys), sorted(keys - set(values))
        if unknown or missing:
            wrong = [f"{name} is none of its `vary` keys" for name in unknown]
            wrong += [f"{name} is missing" for name in missing]
            known = ", ".join(sorted(keys)) or "none"
            raise UsageError(f"scenario {self.id}: {'; '.join(wrong)} (its `vary` keys: {known})")
        faults = tuple(self._fill("faults", line, values) for line in self.model.faults)
        text = self._fill("object.size", str(self.model.object.size), values)
        try:
            size = parse_size(text)
        except ValueError as error:
            raise UsageError(f"{self.source}: object.size: {error}") from None
        return Variant(self.id, tuple(sorted(values.items())), size, faults)

    def _fill(self, key: str, text: str, values: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                known = ", ".join(sorted(self.model.vary)) or "it has none"
                raise UsageError(f"{self.source}: {key}: {{{found[1]}}} is not a key of `vary` ({known})")
            return str(values[found[1]])

        return BRACES.sub(value, text)

    def _values(self, name: str, seed: int) -> list[str]:
        plan = self.model.vary[name]
        items = plan if isinstance(plan, list) else [plan]
        # Each value once: two cases of one name could not be told apart.
        values = list(dict.fromkeys(v for item in items for v in self._expand(name, str(item), seed)))
        if not values:
            raise UsageError(f"{self.source}: vary.{name}: {plan!r} gives no value")
        return values

    def _expand(self, name: str, text: str, seed: int) -> list[str]:
        """A plan becomes offsets; anything else is a value itself."""
        if not (found := re.fullmatch(r"(each|sample|around|boundaries) +(\S+)", text)):
            return [text]
        size = None if BRACES.search(str(self.model.object.size)) else parse_size(self.model.object.size)
        try:
            return [str(i) for i in offsets(found[1], found[2], size, f"{seed} {self.id} {name}")]
        except ValueError as error:
            raise UsageError(f"{self.source}: vary.{name}: {text!r}: {error}") from None


def load_text(name: str, text: str, source: str) -> Loaded:
    """Read and check one scenario, its fault lines included.

    Raises UsageError naming the file and key.
    """
    if not _ID.fullmatch(name):
        raise UsageError(f"{source}: a scenario's file name is its id: lower case, digits and single dashes")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    try:
        model = Scenario.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error, Scenario)}") from None
    if wrong := strangers(model.stores):
        known = ", ".join(sorted({*KINDS, *names("stores")}))
        raise UsageError(f"{source}: stores: {wrong[0]!r} is no kind of store and no store (known: {known})")
    loaded = Loaded(name, model, source)
    used = set(BRACES.findall(" ".join([*model.faults, str(model.object.size)])))
    if unused := set(model.vary) - used:
        known = f"used: {', '.join(sorted(used))}" if used else "they use none"
        raise UsageError(
            f"{source}: vary.{min(unused)}: no fault line or size uses {{{min(unused)}}} ({known})"
        )
    for variant in itertools.islice(loaded.variants(0), 2000):
        try:
            schedule_of(variant)
        except UsageError as error:
            raise UsageError(f"{source}: faults: {error}") from None
    return loaded


def strangers(stores: Sequence[str]) -> list[str]:
    """Those that name neither a store nor a kind of store, of the stores of other packages either."""
    wrong = [name for name in stores if name not in KINDS and name not in names("stores")]
    return wrong and [name for name in wrong if name not in {str(member.kind) for member in added("stores")}]


def schedule_of(variant: Variant) -> Schedule:
    """The schedule of a case, percentages resolved.

    Raises UsageError for a line that does not read, or that no byte of the object can make fire.
    """
    schedule = Schedule.parse(variant.faults).aim(variant.size)
    for line, rule in zip(variant.faults, schedule.rules, strict=True):
        if rule.position.kind == "object" and int(rule.position.value) > variant.size:
            raise UsageError(f"fault {line!r}: the object ends at byte {variant.size}, so it cannot fire")
    return schedule


def applies(loaded: Loaded, store_id: str, store_kind: str) -> bool:
    """Whether a scenario is meant for a store."""
    return store_id in loaded.model.stores or store_kind in loaded.model.stores


def select(scenarios: Sequence[Loaded], globs: Sequence[str]) -> list[Loaded]:
    """Scenarios by id globs, all without any; raises UsageError for a glob that matches nothing."""
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    if not globs:
        return list(scenarios)
    chosen: dict[str, Loaded] = {}
    for glob in globs:
        hits = [s for s in scenarios if fnmatchcase(s.id, glob)]
        if not hits:
            near = get_close_matches(glob, [s.id for s in scenarios], 3, 0.5)
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no scenario matches {glob!r}{meant} (`midstream list scenarios` shows all)")
        chosen.update((s.id, s) for s in hits)
    return list(chosen.values())
