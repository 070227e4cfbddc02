"""Whole processes of calicoctl that are killed while they move everything."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calico.datastore.lock import CLUSTER
from support.contents import CLUSTER as LOCKED

COMMAND = (sys.executable, "-m", "calico.cli.main")
PATIENCE = 30.0
KEYS = 3000


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Nothing of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ETCD", "CALICO"))}
    return inherited | {f"CALICO_{name}_DIR": str(tmp_path / name) for name in ("DATA", "RUN", "CONFIG")}


def _export(tmp_path: Path) -> Path:
    from calico.datastore.exported import dump

    path, value = LOCKED
    content = {path: value} | {f"/calico/newer/{number}": b"%d" % number for number in range(KEYS)}
    file = tmp_path / "everything"
    file.write_text("".join(dump(content, time="now", store="here")), encoding="utf-8")
    return file


def _stored(store: Path) -> dict[str, bytes]:
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as connection:
            return dict(connection.execute("SELECT path, value FROM entry"))
    except sqlite3.OperationalError:  # not there yet
        return {}


def test_an_import_that_was_killed_is_gone_on_with(tmp_path: Path, environment: dict[str, str]) -> None:
    """Whenever it ends, the store is locked; the same command completes it."""
    file, store = _export(tmp_path), tmp_path / "b.db"
    command = (*COMMAND, "--datastore-path", str(store), "datastore", "migrate", "import", "-f", str(file))
    for upto in (1, KEYS // 2):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while len(_stored(store)) < upto and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.kill()
        process.wait()
        assert json.loads(_stored(store)[CLUSTER.path])["spec"]["datastoreReady"] is False
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{KEYS} other keys" in done.stdout
    assert len(_stored(store)) == KEYS + 1


def test_a_backup_that_was_killed_leaves_the_older_one(tmp_path: Path, environment: dict[str, str]) -> None:
    """The file changes from one whole backup to the next, and never is half of one."""
    file, store, saved = _export(tmp_path), tmp_path / "b.db", tmp_path / "saved"
    place = (*COMMAND, "--datastore-path", str(store))
    subprocess.run(
        (*place, "datastore", "migrate", "import", "-f", str(file)),
        env=environment,
        check=True,
        timeout=PATIENCE,
    )
    subprocess.run((*place, "backup", str(saved)), env=environment, check=True, timeout=PATIENCE)
    for pause in (0.2, 0.3, 0.4):
        process = subprocess.Popen((*place, "backup", str(saved)), env=environment, stdout=subprocess.DEVNULL)
        time.sleep(pause)
        process.kill()
        process.wait()
        done = subprocess.run(
            (*place, "restore", str(saved), "--replace", "--dry-run"),
            env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert "0 would be added (+), 0 changed (~), 0 removed (-)" in done.stdout
