"""Run calicoctl in this process, as somebody at a terminal runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calico.cli.main import root

Run = Callable[..., Result]


def calicoctl(*words: str, stdin: str = "", status: int = 0) -> Result:
    """What calicoctl says; a failure shows it if it ends with another status."""
    result = CliRunner().invoke(root, words, input=stdin, prog_name="calicoctl")
    assert result.exit_code == status, (result.output, result.exception)
    return result


def calicoctl_in(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``calicoctl`` from now on in a directory that has its store (``data/calico.db``), its sockets and its settings."""
    for variable, place in (("DATA", "data"), ("RUN", "run"), ("CONFIG", "etc")):
        monkeypatch.setenv(f"CALICO_{variable}_DIR", str(directory / place))
    for variable in ("DATASTORE_TYPE", "CALICO_SQLITE_PATH", "ETCD_ENDPOINTS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(directory)
    return calicoctl
