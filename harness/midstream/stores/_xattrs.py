"""File systems that keep user xattrs, which some servers keep their metadata in."""

from __future__ import annotations

from pathlib import Path

from midstream.stores._swift import lacks_xattrs as lacks


def lacks_xattrs(name: str, folder: Path) -> str:
    """Why a server cannot keep its data in a folder; "" when it can."""
    return lacks(folder).replace("Swift", name)
