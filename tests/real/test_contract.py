"""The real servers keep the contract that ships, but for what they are known to do otherwise."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.real.conftest import need

from midstream._content import Content
from midstream.stores import RunningStore, Store, Traits
from midstream.stores._deviations import DEVIATIONS
from midstream.testing.stores import StoreContract, fetch


class RealStore(StoreContract):
    """The contract, with the deviations of real servers."""

    @property
    def deviations(self) -> Mapping[str, str]:
        return DEVIATIONS[self.store]

    @pytest.fixture(scope="class", autouse=True)
    @staticmethod
    def needed(request: pytest.FixtureRequest) -> None:
        need(request.cls.store)


class TestMinIO(RealStore):
    store = "minio"


class TestVersityGW(RealStore):
    store = "versitygw"


class TestNginx(RealStore):
    store = "nginx"
