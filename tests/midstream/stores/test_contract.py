"""The stores that ship keep the contract that ships."""

from __future__ import annotations

from midstream.testing.stores import StoreContract


class TestOrigin(StoreContract):
    store = "origin"


class TestMoto(StoreContract):
    store = "moto"


class TestSwift(StoreContract):
    store = "swift"


class TestSwiftS3(StoreContract):
    store = "swift-s3"
