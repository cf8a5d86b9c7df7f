"""Every fault of the family keeps the contract."""

from __future__ import annotations

import pytest

from midstream._registry import names
from midstream.testing.faults import FaultContract


class TestBackends(FaultContract):
    """A number of servers, or all of them."""

    fault = "backends"
    bad_values = ("", "-1", "1.5", "none", "1000")


class TestEveryFault(FaultContract):
    """The shipped suite over each member."""

    @pytest.fixture(params=names("faults"))
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)
