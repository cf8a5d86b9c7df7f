"""The embedded injector keeps the contract, in 1,000 of 1,000 cuts of each ending."""

from __future__ import annotations

from midstream.testing.injectors import InjectorContract


class TestEmbedded(InjectorContract):
    """The shipped suite over the embedded injector."""

    injector = "embedded"
    trials = 1000
    batches = 10
