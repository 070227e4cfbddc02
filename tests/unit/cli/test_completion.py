"""Tab completion, by the protocol that the shells speak."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from calico.cli.main import COMMANDS, root
from calico.datastore.sqlite import SQLiteStore
from calico.model.codec import encode
from calico.model.ipam import BlockAffinity, IPAMBlock
from calico.model.keys import Key

MANIFEST = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: one}
spec: {cidr: 10.1.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: other}
spec: {cidr: 10.2.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {}
"""

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """What bash is offered for the last of some words, with a store that holds ``MANIFEST``."""
    for variable, place in (("DATA", "data"), ("RUN", "run"), ("CONFIG", "etc")):
        monkeypatch.setenv(f"CALICO_{variable}_DIR", str(tmp_path / place))
    applied = CliRunner().invoke(root, ["apply", "-f", "-"], input=MANIFEST)
    assert applied.exit_code == 0, applied.output

    def offered(*words: str) -> list[str]:
        environment = {
            "_CALICOCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["calicoctl", *words]),
            "COMP_CWORD": str(len(words)),
        }
        result = CliRunner().invoke(root, [], prog_name="calicoctl", env=environment)
        assert (result.exit_code, result.stderr) == (0, "")
        return [line.partition(",")[2] for line in result.stdout.splitlines() if line]

    return offered


def test_commands_are_offered_without_importing_them(complete: Complete) -> None:
    """All of them, or those that begin as typed."""
    assert complete("") == sorted(COMMANDS)
    assert complete("ap") == ["apply"]


@pytest.mark.parametrize("verb", ["get", "delete"])
def test_kinds_are_offered_in_the_plural(complete: Complete, verb: str) -> None:
    """In any case; a short name that begins no plural is offered as it is."""
    plurals = ["networkpolicies", "networkpolicies.networking.k8s.io", "networksets"]
    assert complete(verb, "net") == plurals
    assert complete(verb, "Net") == plurals
    assert complete(verb, "gn") == ["gnp", "gnps", "gns"]


def test_names_of_a_kind_come_from_the_store(complete: Complete) -> None:
    """Those that are not on the line yet; also in the form KIND/NAME."""
    assert complete("get", "pools", "") == ["one", "other"]
    assert complete("get", "pools", "one", "o") == ["other"]
    assert complete("delete", "pool/o") == ["pool/one", "pool/other"]


def test_names_are_those_of_the_namespace(complete: Complete) -> None:
    """-n chooses, and its values are offered too."""
    assert complete("get", "np", "") == []
    assert complete("get", "-n", "shop", "np", "") == ["web"]
    assert complete("get", "np", "-n", "s") == ["shop"]


def test_options_of_a_command_are_offered(complete: Complete) -> None:
    """And values of those that have a fixed choice."""
    assert "--all-namespaces" in complete("get", "--")
    assert complete("get", "nodes", "-o", "") == [
        "ps",
        "wide",
        "yaml",
        "json",
        "name",
        "custom-columns=",
        "go-template=",
        "go-template-file=",
    ]


def test_labs_are_offered(complete: Complete, tmp_path: Path) -> None:
    """Before the command and after it."""
    lab = tmp_path / "run" / "lab" / "blue"
    lab.mkdir(parents=True)
    (lab / "calico.db").touch()
    assert complete("--lab", "") == ["blue"]
    assert complete("get", "--lab", "b") == ["blue"]


@pytest.mark.parametrize(
    "words",
    [
        ["get", "bogus", ""],
        ["get", "bogus/x"],
        ["--datastore-path", "/nonexistent/x.db", "get", "pools", ""],
        ["--lab", "none", "get", "pools", ""],
        ["--datastore-path", "/proc/self/cmdline", "get", "pools", ""],
    ],
    ids=str,
)
def test_what_makes_no_sense_offers_nothing_and_says_nothing(complete: Complete, words: list[str]) -> None:
    """A shell must not be disturbed while somebody types."""
    assert complete(*words) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["calicoctl", "calico"])
def test_the_script_of_each_shell_asks_the_program_by_its_name(shell: str, program: str) -> None:
    """The script sets the variable that the program of that name looks at."""
    result = CliRunner().invoke(root, ["completion", shell], prog_name=program)
    assert result.exit_code == 0
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in result.stdout


def test_records_of_ipam_are_offered_as_they_are_shown(complete: Complete, tmp_path: Path) -> None:
    """By the names of what people see, of the kind that is asked for, and of the others nothing."""

    async def fill() -> None:
        store = SQLiteStore(tmp_path / "data" / "calico.db")
        block = IPAMBlock(cidr="10.1.0.0/30", allocations=[None] * 4, unallocated=[0, 1, 2, 3])
        await store.create(Key("IPAMBlock", "10.1.0.0/30").path, encode(block))
        affinity = encode(BlockAffinity(state="confirmed"))
        await store.create(Key("BlockAffinity", "10.1.0.0/30", "host:one").path, affinity)
        await store.create(Key("BlockAffinity", "10.1.0.4/30", "host:one").path, b"[]")
        await store.close()

    asyncio.run(fill())

    assert complete("get", "ipamblocks", "") == ["10-1-0-0-30"]
    assert complete("get", "blockaffinities", "") == ["one-10-1-0-0-30"]
    assert complete("get", "ipamhandles", "") == []
