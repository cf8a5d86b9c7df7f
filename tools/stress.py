"""Run a mixed sample over and over with every core busy; any verdict or figure that changes is our error.

    python tools/stress.py [--repeats 2000] [--driver reknit] [--driver naive]

Prints how many cases ran and which changed; exit status 1 if any did.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

SAMPLE = (
    "cut-mid-body",
    "busy-on-resume",
    "damaged-body",
    "chunked-cut",
    "range-stripped-once",
    "replaced-then-cut",
    "killed-half-way-and-run-again",
    "page-with-200-on-resume",
    "cut-over-tls",
    "slice-cut",
)
BURN = "while True: pass"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=2000, help="cases to run in all")
    parser.add_argument("--driver", action="append")
    given = parser.parse_args()
    known = {p.stem for p in Path("scenarios").rglob("*.toml")}
    sample = [name for name in SAMPLE if name in known]
    words = [sys.executable, "-m", "midstream", "run", *sample, "--store", "origin", "--quiet", "-j", "2"]
    for driver in given.driver or ["reknit", "naive"]:
        words += ["--driver", driver]
    burners = [subprocess.Popen([sys.executable, "-c", BURN]) for _ in range(os.cpu_count() or 1)]
    seen: dict[str, set[str]] = defaultdict(set)
    ran = 0
    try:
        with tempfile.TemporaryDirectory() as out:
            while ran < given.repeats:
                status = subprocess.run([*words, "--out", out], stdout=subprocess.DEVNULL).returncode
                if status not in (0, 1):
                    print(f"the run ended with status {status}")
                    return 1
                for case in json.loads((Path(out) / "results.json").read_text())["cases"]:
                    figures = f"{case['body_bytes']} bytes in {case['requests']} requests"
                    seen[case["id"]].add(f"{case['verdict']}: {case['diagnosis']} ({figures})")
                    ran += 1
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    changed = {name: texts for name, texts in seen.items() if len(texts) > 1}
    for name, texts in changed.items():
        print(f"changed: {name}: {' | '.join(sorted(texts))}")
    print(f"{ran} cases, {len(seen)} different, {len(changed)} with a changed verdict or diagnosis")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
