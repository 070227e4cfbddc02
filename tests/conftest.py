"""Settings that all tests share."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

from support.apart import live_apart

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
LONGEST_FIRST = ("lab", "kernel", "contract")
"""Folders that workers begin with: a long file must not be the last one, while the others have nothing to do."""

# No example database: a test run leaves no file behind, and a failure prints the example that reproduces it.
settings.register_profile(
    "calico",
    database=None,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("calico")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script. Programs would inherit that, and tests could not interrupt them.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Part the workers of a run from each other."""
    if WORKER and os.geteuid() == 0:
        live_apart(WORKER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first where workers share them out."""
    if WORKER:
        items.sort(key=lambda item: _rank(item.path.parent.name))


def _rank(folder: str) -> int:
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)
