"""``version``, the check of versions, and the options that every command understands."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import click
import pytest

import calico
from calico.cli.compatibility import mismatch, refuse_mismatch, remark
from calico.cli.main import COMMANDS, root
from calico.datastore.api import Denied, Entry, StoreError, Unavailable
from calico.datastore.memory import MemoryStore
from calico.datastore.sqlite import SQLiteStore
from calico.model.keys import Key
from support.calicoctl import Run, calicoctl_in

CLIENT = f"Client Version:    v{calico.__version__}\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl in a directory of its own."""
    return calicoctl_in(tmp_path, monkeypatch)


def _cluster(tmp_path: Path, spec: object) -> None:
    async def put() -> None:
        store = SQLiteStore(tmp_path / "data" / "calico.db")
        value = json.dumps({"kind": "ClusterInformation", "spec": spec}).encode()
        await store.put(Key("ClusterInformation", "default").path, value, revision=None)
        await store.close()

    asyncio.run(put())


# --- version -----------------------------------------------------------------------------------------


def test_without_a_store_the_program_alone_has_a_version(run: Run, tmp_path: Path) -> None:
    """Nothing is said of a cluster, and looking makes none."""
    result = run("version")
    assert (result.stdout, result.stderr) == (CLIENT, "")
    assert not (tmp_path / "data").exists()


def test_version_and_type_of_the_cluster(run: Run, tmp_path: Path) -> None:
    """As whoever runs it stored them; --client does not ask."""
    _cluster(tmp_path, {"calicoVersion": "v3.29.1", "clusterType": "k8s,bgp"})
    shown = f"{CLIENT}Cluster Version:   v3.29.1\nCluster Type:      k8s,bgp\n"
    assert (run("version").stdout, run("version").stderr) == (shown, "")
    assert run("version", "--client").stdout == CLIENT


@pytest.mark.parametrize("spec", [{}, None, [], {"calicoVersion": 3}])
def test_a_cluster_that_says_nothing(run: Run, tmp_path: Path, spec: object) -> None:
    """Is unknown, which is no failure."""
    _cluster(tmp_path, spec)
    assert run("version").stdout == f"{CLIENT}Cluster Version:   unknown\nCluster Type:      unknown\n"


def test_a_store_that_cannot_be_asked_is_an_error_after_the_own_version(run: Run) -> None:
    """Somebody who asks what they run gets to know it in any case."""
    result = run("version", "--datastore-path", "/proc/self/cmdline", status=1)
    assert result.stdout == CLIENT
    assert "the cluster's version cannot be read" in result.stderr


@pytest.mark.parametrize("text", ["x", "10x", "-1s", "1h 2m", ""])
def test_durations_that_are_none(run: Run, text: str) -> None:
    """Status 2."""
    assert "is no duration" in run("version", "--poll", text, status=2).stderr


# --- which clusters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version", ["", "v3.0.0", "v3.30.2", "3.33.1-0.dev", "v3.99.0", "v0.1.0", "master", "3"]
)
def test_clusters_that_are_understood(version: str) -> None:
    """All of Calico 3, our own, and those of which nothing is known."""
    assert mismatch(version) == ""


@pytest.mark.parametrize("version", ["v4.0.0", "2.6.1", "v30.1"])
def test_clusters_that_are_not(version: str) -> None:
    """Another major version may mean something else by the same words."""
    assert version in mismatch(version)
    assert "--allow-version-mismatch" in mismatch(version)


def test_a_newer_minor_version_is_worth_a_remark() -> None:
    """What is newer than we know is kept, but not shown."""
    assert remark("v3.33.9") == ""
    assert "newer than 3.33" in remark("v3.34.0")
    assert remark("v4.0.0") == mismatch("v4.0.0")


def test_commands_refuse_a_cluster_that_they_do_not_understand(run: Run, tmp_path: Path) -> None:
    """Unless they are told to go on, before the command or after it."""
    _cluster(tmp_path, {"calicoVersion": "v4.1.0"})
    assert "run by Calico v4.1.0" in run("get", "nodes", status=1).stderr
    assert run("get", "nodes", "--allow-version-mismatch").stdout == "NAME\n"
    assert run("--allow-version-mismatch", "get", "nodes").stdout == "NAME\n"
    assert "run by Calico v4.1.0" in run("version").stderr


@pytest.mark.parametrize(
    ("error", "passes"), [(Denied("not for you"), True), (Unavailable("it is gone"), False)]
)
def test_who_may_not_read_the_version_works_all_the_same(error: StoreError, passes: bool) -> None:
    """A store that refuses this one key may allow the rest; one that is lost allows nothing."""

    class Guarded(MemoryStore):
        async def get(self, path: str) -> Entry | None:
            del path
            raise error

    if passes:
        asyncio.run(refuse_mismatch(Guarded()))
    else:
        with pytest.raises(Unavailable, match="gone"):
            asyncio.run(refuse_mismatch(Guarded()))


# --- options of every command ------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_understands_them_and_has_an_example(name: str) -> None:
    """Their help is not repeated in each; every command with commands hands them on."""
    command = root.get_command(click.Context(root), name)
    assert command is not None
    commands = [command, *getattr(command, "commands", {}).values()]
    for each in commands:
        options = {option for param in each.params for option in param.opts}
        assert {"--allow-version-mismatch", "--context", "--log-level"} <= options
    assert [each.name for each in commands if "Example" not in (each.help or "")] == []


def test_a_context_is_refused_with_what_to_do(run: Run) -> None:
    """There is no store behind the Kubernetes API."""
    assert "--etcd-endpoints" in run("get", "nodes", "--context", "prod", status=2).stderr
    assert "--etcd-endpoints" in run("--context", "prod", "get", "nodes", status=2).stderr


def test_levels_of_logging(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default of Calico's program logs nothing; a level that there is not is refused."""
    asked: list[dict[str, str]] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **words: asked.append(words))
    run("-l", "panic", "version")
    assert asked == []
    run("version", "--log-level", "warn")
    run("-l", "debug", "version")
    assert [each["level"] for each in asked] == ["WARNING", "DEBUG"]
    assert "is not one of" in run("-l", "loud", "version", status=2).stderr
