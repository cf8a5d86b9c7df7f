"""The main job in one go: reknit passes every case on four stores, a naive loop is caught, by name.

Exit status 0 when that is what happened.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

OUT = Path("midstream-out")


def main() -> int:
    print("Cutting downloads from four stores: an HTTP origin, moto (S3), Swift and Swift's S3 API.")
    print("Drivers: reknit, which resumes, and naive, a loop that appends whatever comes.\n", flush=True)
    command = [sys.executable, "-m", "midstream", "run", "--driver", "reknit", "--driver", "naive"]
    status = subprocess.run([*command, "--quiet", "--out", str(OUT)]).returncode
    if status not in (0, 1):
        return status
    cases = json.loads((OUT / "results.json").read_text(encoding="utf-8"))["cases"]
    reknit = [c for c in cases if c["driver"] == "reknit"]
    wrong = [c for c in reknit if c["level"]]
    caught = [c for c in cases if c["driver"] == "naive" and c["level"] == "must"]
    shown: dict[str, dict[str, str]] = {}
    for case in caught:
        shown.setdefault(case["verdict"], case)
    print("\nWhat naive delivered and called a success, or worse:")
    for verdict, case in sorted(shown.items()):
        print(f"  {verdict:<17} {case['scenario']} on {case['store']}: {case['diagnosis'][:110]}")
        print(f"  {'':<17} again: {case['replay']}")
    stores = len({c["store"] for c in reknit})
    idle = [c for c in reknit if c["verdict"] in ("not_applicable", "not_reached", "observed")]
    judged = len(reknit) - len(idle)
    print(f"\nreknit: {judged - len(wrong)} of {judged} judged cases as they should be, on {stores} stores")
    print(f"        ({len(idle)} more were not applicable, never met their fault, or only observed).")
    print(f"naive:  {len(caught)} cases break a MUST.")
    print(f"Report: {OUT / 'index.html'} (until the next run without --out, which writes there, too)")
    return 1 if wrong or not caught else 0


if __name__ == "__main__":
    sys.exit(main())
