"""What cases stand on when a store has died: another store, and folders that nobody else is in."""

from __future__ import annotations

from midstream._grounds import Grounds
from midstream.injectors.embedded import MEMBER as EMBEDDED
from midstream.stores.origin import MEMBER as ORIGIN


def test_a_store_that_died_leaves_cases_behind() -> None:
    """Cases of another lane may still be in the folders of the one that has died: the new one has its own."""
    grounds = Grounds({"embedded": EMBEDDED})
    try:
        first = grounds.place(ORIGIN, "embedded")
        left = first.folder()
        (left / "object").touch()
        first.running.stop()
        second = grounds.place(ORIGIN, "embedded")
        assert second is not first
        assert second.running.alive()
        assert second.folder() != left
        assert (left / "object").exists()
        assert grounds.place(ORIGIN, "embedded") is second
    finally:
        grounds.close()
    assert not left.exists()
