"""Let every saboteur loose on every quick scenario and write docs/kill-matrix.md: who is caught by what.

Takes some minutes. Run it after adding a scenario, a check or a saboteur.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ZOO = ROOT / "tests" / "saboteurs"
sys.path.insert(0, str(ZOO))

from _bases import Split, Trusting  # noqa: E402
from _zoo import DEADLINE, ELSEWHERE, Row, Zoo, cases_for, laid_out, named_upload, scenarios, spread, strict  # noqa: E402
from sins import SINS, UPLOAD_SINS  # noqa: E402

from midstream._registry import members  # noqa: E402
from midstream._scenario import Loaded, Variant  # noqa: E402
from midstream._verdict import FINE, MEANING, Verdict  # noqa: E402

VARIANTS = 2
BASE = "skips_the_digest"  # what those that look at no digest are caught by for that alone
PAGE = ROOT / "docs" / "kill-matrix.md"
HEAD = """# Kill matrix

A saboteur is a client with one sin; `tests/saboteurs/` holds a correct client and {sins} of them, each a
small override. This page is written by `tools/killmatrix.py` from {cases:,} cases on the bundled origin.
Run one yourself:

```
midstream run --driver py:tests/saboteurs/sins.py:appends_a_whole_body --store origin
```

Many saboteurs look at no digest, as most clients do, so that their own sin shows. What `skips_the_digest` is
caught by is not counted for them.
"""


OTHERS = """
## Objects that the origin cannot make

Versioned buckets and Swift's dynamic large objects.
"""
UPLOADS = """
## Uploads

Saboteurs that upload (`--driver put:tests/saboteurs/sins.py:NAME`), in the scenarios that are meant for them.
"""


def caught_rows(name: str, rows: dict[str, list[Row]]) -> list[Row]:
    """What accuses a saboteur of its own sin."""
    found = [row for row in rows[name] if row.caught]
    if name == BASE or not issubclass(SINS[name], (Trusting, Split)):
        return found
    base = {(row.scenario, row.variant, row.verdict) for row in rows[BASE]}
    return [row for row in found if (row.scenario, row.variant, row.verdict) not in base]


def shown(items: Iterable[str], most: int = 3) -> str:
    """The first few and how many more."""
    listed = list(dict.fromkeys(items))
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(f"`{item}`" for item in listed[:most]) + more


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines)


def ordered(name: str, found: Sequence[Row]) -> list[str]:
    """Scenarios that catch a saboteur, first those that are meant for it."""
    meant = [place.partition("[")[0] for place in SINS[name].caught]
    all_ids = [row.scenario for row in found]
    return [i for i in meant if i in all_ids] + sorted(set(all_ids))


def verdicts_of(found: Sequence[Row]) -> str:
    """Each verdict with the number of scenarios that gave it, most first."""
    count = Counter(verdict for _, verdict in {(row.scenario, row.verdict) for row in found})
    return ", ".join(f"{v} {n}" for v, n in sorted(count.items(), key=lambda item: (-item[1], item[0])))


def saboteurs(caught: dict[str, list[Row]]) -> str:
    lines = [
        (f"`{name}`", SINS[name].__doc__, verdicts_of(found), shown(ordered(name, found)))
        for name, found in caught.items()
    ]
    return table(("saboteur", "sin", "verdicts", "caught by"), lines)


def checks(caught: dict[str, list[Row]]) -> str:
    lines = []
    for check, member in members("checks"):
        guilty = [name for name, found in caught.items() if any(check in row.checks for row in found)]
        lines.append((f"`{check}`", member.summary, shown(guilty)))
    return table(("check", "rule", "tripped by"), lines)


def verdicts(caught: dict[str, list[Row]]) -> str:
    lines = []
    for verdict in Verdict:
        if verdict not in FINE and verdict is not Verdict.HARNESS_ERROR:
            guilty = [n for n, found in caught.items() if any(row.verdict == verdict for row in found)]
            lines.append((verdict.value, MEANING[verdict], shown(guilty)))
    return table(("verdict", "meaning", "deserved by"), lines)


def catches(rows: dict[str, list[Row]], chosen: Sequence[Loaded]) -> list[tuple[object, ...]]:
    lines: list[tuple[object, ...]] = []
    for loaded in filter(strict, chosen):
        guilty = [n for n in rows if any(row.caught and row.scenario == loaded.id for row in rows[n])]
        lines.append((f"`{loaded.id}`", len(guilty), shown(sorted(guilty))))
    return lines


def let_loose(zoo: Zoo, cases_of: Callable[[str], list[tuple[Loaded, Variant]]]) -> dict[str, list[Row]]:
    """Every saboteur on its cases."""

    def run(name: str) -> list[Row]:
        found = zoo.run(f"py:{ZOO / 'sins.py'}:{name}", cases_of(name), SINS[name].deadline or DEADLINE)
        print(f"{name}: {len(found)} cases, {sum(row.caught for row in found)} accuse", flush=True)
        return found

    with ThreadPoolExecutor(4) as lanes:
        return dict(zip(SINS, lanes.map(run, SINS), strict=True))


def elsewhere() -> str:
    """What happens only to objects that the origin cannot make."""
    lines = []
    for layout, store in ELSEWHERE.items():
        cases = [(loaded, variant) for loaded in laid_out(layout) for variant in spread(loaded, 9)]
        with Zoo(store) as zoo:
            rows = let_loose(zoo, lambda _, cases=cases: cases)  # type: ignore[misc]
        lines += [(store, *line) for line in catches(rows, laid_out(layout))]
    return table(("store", "scenario", "catches", "for instance"), lines)


def upload() -> dict[str, list[Row]]:
    """Those that upload, each let loose on the scenarios that are meant for it, on the store that is."""
    rows = {}
    for store in sorted({sin.store for sin in UPLOAD_SINS.values()}):
        with Zoo(store) as zoo:
            for name, sin in UPLOAD_SINS.items():
                if sin.store == store:
                    cases = [case for place in sin.caught for case in named_upload(store, place)]
                    found = [r for r in zoo.run(f"put:{ZOO / 'sins.py'}:{name}", cases) if r.caught]
                    print(f"{name}: {len(cases)} cases, {len(found)} accuse", flush=True)
                    rows[name] = found
    return rows


def uploaders(caught: dict[str, list[Row]]) -> str:
    lines = []
    for name, found in sorted(caught.items()):
        sin, places = UPLOAD_SINS[name], shown(row.scenario for row in found)
        lines.append((f"`{name}`", sin.__doc__, sin.store, verdicts_of(found), places))
    return table(("saboteur", "sin", "store", "verdicts", "caught by"), lines)


def page(rows: dict[str, list[Row]]) -> str:
    caught = {name: caught_rows(name, rows) for name in sorted(SINS)}
    uploads = upload()
    parts = [
        HEAD.format(sins=len(SINS), cases=sum(map(len, rows.values()))),
        "## Saboteurs\n\nVerdicts with the number of scenarios that gave them.\n",
        saboteurs(caught),
        "\n## Checks\n",
        checks({**caught, **uploads}),
        "\n## Verdicts\n",
        verdicts(caught),
        "\n## Scenarios\n\nThose for the origin that accuse, with the number of saboteurs they catch.\n",
        table(("scenario", "catches", "for instance"), catches(rows, scenarios())),
        OTHERS,
        elsewhere(),
        UPLOADS,
        uploaders(uploads),
    ]
    return "\n".join(parts) + "\n"


def main() -> int:
    with Zoo() as zoo:
        rows = let_loose(
            zoo, lambda name: list(cases_for(tuple(SINS[name].caught), SINS[name].slow, VARIANTS))
        )
    PAGE.write_text(page(rows), encoding="utf-8")
    for name in SINS:
        if not caught_rows(name, rows):
            print(f"uncaught: {name}")
        for row in (row for row in rows[name] if row.level == "harness"):
            print(f"harness error: {name}: {row.diagnosis}: {row.replay}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
