"""calicoctl as a whole process: exit statuses, streams, signals, users, and other processes beside it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Done = subprocess.CompletedProcess[str]
Calicoctl = Callable[..., Done]

COMMAND = [sys.executable, "-m", "calico.cli.main"]
TIMEOUT = 120


def _pool(number: int) -> str:
    return (
        f"---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: pool-{number}}}\n"
        f"spec: {{cidr: 10.{number}.0.0/16}}\n"
    )


def _set(name: str, net: str) -> str:
    return (
        f"---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: {name}}}\n"
        f"spec: {{nets: [{net}]}}\n"
    )


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
    places = {"DATA": "data", "RUN": "run", "CONFIG": "etc"}
    return kept | {f"CALICO_{name}_DIR": str(tmp_path / place) for name, place in places.items()}


@pytest.fixture
def calicoctl(tmp_path: Path, environment: dict[str, str]) -> Calicoctl:
    """Run calicoctl in directories of its own."""

    def run(*words: str, stdin: str | None = None, **more: str) -> Done:
        return subprocess.run(
            [*COMMAND, *words],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment | more,
            timeout=TIMEOUT,
            check=False,
        )

    return run


def _pools(calicoctl: Calicoctl) -> list[str]:
    shown = calicoctl("get", "pools", "-o", "json")
    return [each["metadata"]["name"] for each in json.loads(shown.stdout)["items"]]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
        (["version"], 0),
        (["get", "--help"], 0),
        (["get", "nodes"], 0),
        (["get", "node", "none"], 1),
        (["get", "bogus"], 2),
        (["get"], 2),
        (["apply"], 2),
        (["apply", "-f", "none.yaml"], 1),
        (["delete", "node", "none"], 1),
        (["delete", "node", "none", "--skip-not-exists"], 0),
        (["delete", "node"], 2),
        (["aply"], 2),
        (["--datastore-path", "/", "get", "nodes"], 2),
    ],
    ids=str,
)
def test_exit_status(calicoctl: Calicoctl, words: list[str], status: int) -> None:
    """0: it went well; 1: something failed; 2: the command line is wrong. Never a traceback."""
    done = calicoctl(*words)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) or status == 0


def test_a_life_of_a_manifest(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """Apply, look, edit, apply, delete, each in a process of its own."""
    (tmp_path / "pools.yaml").write_text(_pool(1) + _pool(2))
    assert calicoctl("apply", "-f", "pools.yaml").stdout == "Successfully applied 2 'IPPool' resource(s)\n"
    shown = calicoctl("get", "ippools", "-o", "yaml").stdout
    edited = shown.replace("vxlanMode: Never", "vxlanMode: Always")
    assert calicoctl("apply", "-f", "-", stdin=edited).returncode == 0
    assert calicoctl("get", "pools", "-o", "wide").stdout.count("Always") == 2
    assert calicoctl("delete", "-f", "pools.yaml").returncode == 0
    assert calicoctl("get", "pools").stdout == "NAME   CIDR   SELECTOR\n"


def test_a_broken_file_among_good_ones_writes_nothing(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """The line is named, the exit status is 1, and the store is as it was."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1-good.yaml").write_text(_pool(1))
    (tmp_path / "m" / "2-broken.yaml").write_text(_pool(2).replace("cidr", "cdir"))
    (tmp_path / "m" / "3-good.yaml").write_text(_pool(3))
    calicoctl("apply", "-f", "-", stdin=_pool(9))
    done = calicoctl("apply", "-f", "m")
    assert (done.returncode, done.stdout) == (1, "")
    assert "m/2-broken.yaml:5:8: IPPool/pool-2: spec.cdir: " in done.stderr
    assert _pools(calicoctl) == ["pool-9"]


def test_two_processes_lose_nothing(
    calicoctl: Calicoctl, environment: dict[str, str], tmp_path: Path
) -> None:
    """Applies at the same moment, some of them of the same resources, into a store that is not there yet."""
    writers = []
    for writer in range(3):
        own = "".join(_set(f"own-{writer}-{number}", f"10.{writer}.{number}.0/24") for number in range(20))
        shared = "".join(_set(f"shared-{number}", f"192.168.{writer}.0/24") for number in range(10))
        (tmp_path / f"{writer}.yaml").write_text(own + shared)
        writers.append(
            subprocess.Popen(
                [*COMMAND, "apply", "-f", f"{writer}.yaml"],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [writer.communicate(timeout=TIMEOUT)[0] for writer in writers]
    assert said == ["Successfully applied 30 'GlobalNetworkSet' resource(s)\n"] * 3
    found = json.loads(calicoctl("get", "gns", "-o", "json").stdout)["items"]
    assert len(found) == 3 * 20 + 10
    assert len({each["metadata"]["uid"] for each in found}) == len(found)


def test_a_reader_that_leaves_early_is_no_trouble(environment: dict[str, str], calicoctl: Calicoctl) -> None:
    """``get | head``: no message, no traceback."""
    calicoctl("apply", "-f", "-", stdin="".join(_set(f"set-{n}", "10.0.0.0/8") for n in range(300)))
    getting = subprocess.Popen(
        [*COMMAND, "get", "gns", "-o", "yaml"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert getting.stdout is not None
    assert getting.stderr is not None
    getting.stdout.read(1)
    getting.stdout.close()
    assert getting.stderr.read() == b""
    getting.stderr.close()
    getting.wait(TIMEOUT)


def test_output_that_cannot_be_written_is_an_error(environment: dict[str, str]) -> None:
    """A full disk is said in one line, not in a traceback."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, "get", "tiers"],
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "Error: [Errno 28] No space left on device"
    assert "Traceback" not in done.stderr


def test_closed_standard_input_is_an_error(environment: dict[str, str]) -> None:
    """``apply -f - <&-`` says so."""
    done = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *COMMAND, "apply", "-f", "-"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, "standard input is closed" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("directory", "is a directory"), ("text", "is damaged"), ("text/x.db", "is a file, not a directory")],
)
@pytest.mark.parametrize("words", [["get", "nodes"], ["apply", "-f", "-"]], ids=str)
def test_a_store_that_is_none_is_named(
    calicoctl: Calicoctl, tmp_path: Path, name: str, sentence: str, words: list[str]
) -> None:
    """What stands in the store's place is said, and left alone."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "text").write_text("not a database, but text\n" * 100)
    done = calicoctl("--datastore-path", name, *words, stdin=_pool(1))
    assert done.returncode in {1, 2}
    assert name.partition("/")[0] in done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.root
def test_another_user_is_told_why_not(
    tmp_path: Path, environment: dict[str, str], calicoctl: Calicoctl
) -> None:
    """The store is for its owner; others get a sentence, no traceback and no other store."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    calicoctl("apply", "-f", "-", stdin=_pool(1))
    nobody = pwd.getpwnam("nobody").pw_uid
    for parent in [tmp_path, *tmp_path.parents]:
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o001)

    def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=environment,
            user=nobody,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
            cwd="/",
        )

    try:
        may = as_nobody(*COMMAND, "version").returncode == 0
    except PermissionError:
        may = False
    if not may:
        pytest.skip("the checkout is where 'nobody' may not go, so it cannot run calicoctl")
    for words in (["get", "pools"], ["apply", "-f", "-"]):
        done = as_nobody(*COMMAND, *words)
        assert done.returncode == 1
        assert "may not be read by this user" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_store_that_only_root_may_read_is_no_riddle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A readable directory with a private store in it, as a lab's: the error says whose it is to read."""
    import click

    from calico.cli.stores import Location, open_store
    from calico.datastore.location import Datastore

    store = tmp_path / "calico.db"
    store.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(click.ClickException, match="run as its owner"):
        open_store(Location(Datastore(store), "test"))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"DATASTORE_TYPE": "kubernetes"}, "DATASTORE_TYPE=kubernetes"),
        ({"DATASTORE_TYPE": "etcdv3"}, "no endpoint of etcd is named"),
        ({"DATASTORE_TYPE": "redis"}, "known are sqlite"),
    ],
    ids=str,
)
def test_a_store_that_is_not_supported_is_refused(
    calicoctl: Calicoctl, more: dict[str, str], sentence: str
) -> None:
    """Never another store in its place."""
    done = calicoctl("get", "nodes", **more)
    assert (done.returncode, sentence in done.stderr) == (2, True)
    assert "Usage:" not in done.stderr


def test_the_only_lab_is_used_and_that_is_said_on_one_line(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """Standard output stays clean for other programs."""
    database = tmp_path / "run" / "lab" / "blue" / "calico.db"
    calicoctl("--datastore-path", str(database), "apply", "-f", "-", stdin=_pool(1))
    done = calicoctl("get", "pools", "-o", "json")
    assert done.stderr == "using the store of lab 'blue', the only one running\n"
    assert json.loads(done.stdout)["items"][0]["metadata"]["name"] == "pool-1"
    assert calicoctl("--lab", "blue", "get", "pools").stderr == ""


def test_bash_completes_what_a_person_types(
    calicoctl: Calicoctl, environment: dict[str, str], tmp_path: Path
) -> None:
    """The script, loaded by a real bash, asks the program and fills in the reply."""
    calicoctl("apply", "-f", "-", stdin=_pool(1) + _pool(2) + _set("set-1", "10.0.0.0/8"))
    program = tmp_path / "bin" / "calicoctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    typed = """
    source <(calicoctl completion bash)
    complete -p calicoctl
    COMP_WORDS=(calicoctl get pools pool-) COMP_CWORD=3
    _calicoctl_completion calicoctl
    echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", typed],
        env=environment | {"PATH": f"{program.parent}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _calicoctl_completion calicoctl",
        "pool-1 pool-2",
    ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_answered_in_its_own_form(calicoctl: Calicoctl, shell: str) -> None:
    """Names of stored resources, as the shell's script expects them."""
    calicoctl("apply", "-f", "-", stdin=_pool(1) + _pool(2))
    done = calicoctl(
        _CALICOCTL_COMPLETE=f"{shell}_complete",
        COMP_WORDS="calicoctl get pools pool-",
        COMP_CWORD="pool-" if shell == "fish" else "3",
    )
    expected = {
        "bash": "plain,pool-1\nplain,pool-2\n",
        "zsh": "plain\npool-1\n_\nplain\npool-2\n_\n",
        "fish": "plain,pool-1\nplain,pool-2\n",
    }
    assert (done.stdout, done.stderr) == (expected[shell], "")


def test_light_commands_stay_light(environment: dict[str, str]) -> None:
    """Help and version load no store, no YAML and no event loop; looking loads no YAML and no lab."""
    heavy = {"asyncio", "sqlite3", "yaml", "pyroute2", "difflib", "ssl", "msgspec"}
    assert _loaded(environment, "--help") & heavy == set()
    assert _loaded(environment, "version") & heavy == set()
    unneeded = {
        "yaml",
        "pyroute2",
        "calico.agent.main",
        "calico.lab",
        "calico.model.validation",
        "calico.model.selector",
    }
    assert _loaded(environment, "get", "nodes") & unneeded == set()


def _loaded(environment: dict[str, str], *words: str) -> set[str]:
    """The modules that a command has imported by its end."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "calico.cli.main", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return {
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
