"""Every check that ships keeps the contract that ships with it."""

from __future__ import annotations

from midstream._registry import names
from midstream.testing.checks import CheckContract

# One class per file in checks/, made here so that a new check is held to the contract at once.
for _name in names("checks"):
    _title = f"Test{_name.title().replace('-', '')}"
    globals()[_title] = type(_title, (CheckContract,), {"check": _name, "__module__": __name__})
