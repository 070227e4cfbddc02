"""Settings that all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

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
