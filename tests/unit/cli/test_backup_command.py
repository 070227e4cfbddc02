"""calicoctl backup and restore: one file, whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calico.cli.main import root

Calicoctl = Callable[..., Result]


def _pools(*numbers: int) -> str:
    return "---".join(
        f"""
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {{name: pool-{number}}}
spec: {{cidr: 10.{number}.0.0/16}}
"""
        for number in numbers
    )


@pytest.fixture
def calicoctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calicoctl:
    monkeypatch.chdir(tmp_path)

    def run(*words: str, store: str = "a.db", stdin: str | None = None) -> Result:
        words = ("--datastore-path", store, *words)
        return CliRunner().invoke(root, words, input=stdin, catch_exceptions=False)

    assert run("apply", "-f", "-", stdin=_pools(1, 2)).exit_code == 0
    return run


def _everything(store: str) -> list[tuple[str, bytes]]:
    with sqlite3.connect(store) as connection:
        return list(connection.execute("SELECT path, value FROM entry ORDER BY path"))


def test_a_backup_is_restored_into_a_new_store(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """Every key, byte by byte; the file is for its owner alone, and nothing else is left in the directory."""
    done = calicoctl("backup", "file")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "2 IPPool" in done.stdout
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".file")]
    restored = calicoctl("restore", "file", store="b.db")
    assert (restored.exit_code, "2 IPPool" in restored.stdout) == (0, True)
    assert _everything("b.db") == _everything("a.db")


def test_a_store_becomes_equal_to_the_file(calicoctl: Calicoctl) -> None:
    """What changed, came and went since is undone; a rehearsal says so before and changes nothing."""
    calicoctl("backup", "file")
    before = _everything("a.db")
    calicoctl("delete", "pool", "pool-1")
    calicoctl("apply", "-f", "-", stdin=_pools(3))
    changed = _pools(2).replace("spec: {", "spec: {disabled: true, ")
    calicoctl("apply", "-f", "-", stdin=changed)
    now = _everything("a.db")

    refused = calicoctl("restore", "file")
    assert refused.exit_code == 1
    assert "the store is not empty" in refused.stderr
    assert "--replace" in refused.stderr
    assert calicoctl("restore", "file", "--dry-run").exit_code == 1
    rehearsed = calicoctl("restore", "file", "--replace", "--dry-run")
    assert rehearsed.stdout == (
        "+ IPPool/pool-1\n~ IPPool/pool-2\n- IPPool/pool-3\n"
        "Nothing was written; 1 would be added (+), 1 changed (~), 1 removed (-).\n"
    )
    assert _everything("a.db") == now

    done = calicoctl("restore", "file", "--replace")
    assert (done.exit_code, "1 added, 1 changed, 1 removed" in done.stdout) == (0, True)
    assert _everything("a.db") == before


def test_a_damaged_file_changes_nothing(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """It is judged before the store is opened."""
    calicoctl("backup", "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[:-20])
    for more in ((), ("--replace",), ("--dry-run",)):
        done = calicoctl("restore", "file", *more, store="b.db")
        assert (done.exit_code, "nothing was written" in done.stderr) == (1, True)
    assert not (tmp_path / "b.db").exists()
    assert "No such file" in calicoctl("restore", "none", store="b.db").stderr


def test_a_rehearsal_makes_no_store(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """Where none is, everything would be added."""
    calicoctl("backup", "file")
    done = calicoctl("restore", "file", "--dry-run", store="b.db")
    assert (done.exit_code, "+ IPPool/pool-1\n" in done.stdout) == (0, True)
    assert not (tmp_path / "b.db").exists()


def test_only_a_backup_is_overwritten(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """A slip of the finger costs no manifest; an older backup gives way, through a link too."""
    (tmp_path / "policy.yaml").write_text("kind: Tier")
    done = calicoctl("backup", "policy.yaml")
    assert (done.exit_code, "is not overwritten" in done.stderr) == (1, True)
    assert (tmp_path / "policy.yaml").read_text() == "kind: Tier"
    (tmp_path / "latest").symlink_to("real")
    assert calicoctl("backup", "latest").exit_code == calicoctl("backup", "latest").exit_code == 0
    assert (tmp_path / "latest").is_symlink()
    assert calicoctl("restore", "real", store="b.db").exit_code == 0


@pytest.mark.parametrize(
    ("file", "sentence"),
    [("none/file", "is no directory"), (".", "is a directory"), ("/dev/null", "is no ordinary file")],
)
def test_where_no_backup_can_be_is_said(calicoctl: Calicoctl, file: str, sentence: str) -> None:
    """Before the store is read."""
    done = calicoctl("backup", file)
    assert (done.exit_code, sentence in done.stderr) == (1, True)


def test_an_empty_store_is_not_backed_up(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """Last night's backup is not replaced by nothing because somebody mistyped the store's name."""
    calicoctl("backup", "file")
    before = (tmp_path / "file").read_bytes()
    done = calicoctl("backup", "file", store="mistyped.db")
    assert (done.exit_code, "holds nothing" in done.stderr) == (1, True)
    assert (tmp_path / "file").read_bytes() == before
    assert not (tmp_path / "mistyped.db").exists()
