"""Interim responses, which `http.client` mistakes for final ones.

A client must be able to read one or more 1xx responses before the final one (RFC 9110 §15.2). The standard
library skips 100 and takes 102 and 103 for the answer.
"""

from __future__ import annotations

import http.client
from typing import Any

import urllib3


class FinalResponse(http.client.HTTPResponse):
    """Reads on until the status is final; 101 is one."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 101 < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)


def _patient(pool: type[Any]) -> type[Any]:
    connection = type("PatientConnection", (pool.ConnectionCls,), {"response_class": FinalResponse})
    return type(f"Patient{pool.__name__}", (pool,), {"ConnectionCls": connection})


def teach(manager: urllib3.PoolManager) -> None:
    """Have every connection of a pool manager skip interim responses."""
    classes = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _patient(pool) for scheme, pool in classes.items()}
