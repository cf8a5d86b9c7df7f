"""What the image installs before the sources: dependencies.txt and, by the lock, constraints.txt.

pip takes no hashes in constraints unless everything has one, so they are left out.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
wanted = [*project["dependencies"]]
for extra in project["optional-dependencies"].values():
    wanted += [line for line in extra if not line.startswith(f"{project['name']}[")]
Path("dependencies.txt").write_text("\n".join(sorted(set(wanted))) + "\n", encoding="utf-8")

lock = Path("requirements-dev.lock").read_text(encoding="utf-8")
pins = [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[\w.-]+==", line)]
Path("constraints.txt").write_text("\n".join(pins) + "\n", encoding="utf-8")
