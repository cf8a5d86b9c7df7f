"""What uploads leave in a Swift: segments that no manifest names."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from midstream.stores import CONTAINER

if TYPE_CHECKING:
    from midstream.stores._swift import Api


def strays(api: Api, key: str) -> list[str]:
    """Paths of what an upload of `key` left and no object uses, wherever in the account a driver put it.

    Names of segments hold the name of their object by every client's custom. What is left to expire
    (X-Delete-At) has been seen to.
    """
    used = _segments(api, key)
    found = []
    for container in _names(api, ""):
        for name in _names(api, quote(container, safe="")):
            path = f"{container}/{name}"
            if key in name and path not in used and path != f"{CONTAINER}/{key}":
                head = api.request("HEAD", quote(path), missing=True)
                if head.status_code != 404 and "X-Delete-At" not in head.headers:
                    found.append(path)
    return found


def _segments(api: Api, key: str) -> set[str]:
    """What the object of this name is made of, if it is a static large object."""
    path = f"{CONTAINER}/{quote(key)}"
    head = api.request("HEAD", path, missing=True)
    if head.status_code == 404 or head.headers.get("X-Static-Large-Object", "").lower() != "true":
        return set()
    rows = api.request("GET", f"{path}?multipart-manifest=get&format=json").json()
    return {row["name"].lstrip("/") for row in rows}


def _names(api: Api, path: str) -> list[str]:
    """The containers of the account, or the objects of a container."""
    found: list[str] = []
    while True:
        marker = quote(found[-1], safe="") if found else ""
        page = api.request("GET", f"{path}?format=json&marker={marker}").json()
        if not page:
            return found
        found += [entry["name"] for entry in page]
