"""``calicoctl lab`` on the command line, as far as it needs no root."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calico.cli.main import root
from calico.lab.description import check, describe
from calico.lab.intent import example_policy
from calico.model.validation import problems_of
from calico.model.yaml_text import documents

EXAMPLES = Path(__file__).parents[3] / "examples" / "lab"


@pytest.fixture
def calicoctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A machine without labs."""
    monkeypatch.setenv("CALICO_RUN_DIR", str(tmp_path / "run"))
    return CliRunner()


def run(calicoctl: CliRunner, *words: str) -> Result:
    return calicoctl.invoke(root, ["lab", *words])


def test_a_machine_without_labs_lists_none(calicoctl: CliRunner) -> None:
    """A heading, and nothing below it; no directory is made by looking."""
    done = run(calicoctl, "list")

    assert (done.exit_code, done.output.split()) == (
        0,
        ["NAME", "STATE", "BACKEND", "RACKS", "HOSTS", "WORKLOADS", "CREATED"],
    )


def test_a_lab_whose_record_is_damaged_is_listed_as_such(calicoctl: CliRunner, tmp_path: Path) -> None:
    """It is there, and what to do about it is said; what is no lab's directory is not listed."""
    for name in ("old", "not-a-lab"):
        home = tmp_path / "run" / "lab" / name
        home.mkdir(parents=True)
        (home / "state.json").write_text("{")

    done = run(calicoctl, "list")

    assert done.exit_code == 0
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [["old", "unreadable"]]
    assert "lab down --name old" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("racks: [{hosts: 1}]\nmut: 9000\n", "mut"),
        ("racks: [{hosts: [{name: spine}]}]\n", "'spine'"),
        ("racks: [\n", "line 1"),
        ("", "empty"),
        ("racks: [{hosts: 1}]\n---\nracks: [{hosts: 2}]\n", "2 documents"),
        ("racks: [{hosts: 1}]\nmtu: 100\n", "line 2: mtu"),
    ],
)
def test_a_bad_topology_file_builds_nothing(
    calicoctl: CliRunner, tmp_path: Path, text: str, words: str
) -> None:
    """The file and the place in it are named."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    done = run(calicoctl, "up", "--topology", str(file))

    assert done.exit_code == 1
    assert str(file) in done.output
    assert words in done.output
    assert not (tmp_path / "run").exists()


def test_a_topology_file_and_counts_exclude_each_other(calicoctl: CliRunner) -> None:
    """Two answers to one question are a mistake."""
    done = run(calicoctl, "up", "--topology", str(EXAMPLES / "topology.yaml"), "--racks", "3")

    assert done.exit_code == 2
    assert "--racks" in done.output


def test_ports_must_be_services(calicoctl: CliRunner) -> None:
    """TCP or UDP, and a number."""
    done = run(calicoctl, "up", "--ports", "SCTP/80")

    assert done.exit_code == 2
    assert "SCTP/80" in done.output


def test_the_example_topology_is_valid() -> None:
    """What the documentation points to can be built."""
    document = next(iter(documents((EXAMPLES / "topology.yaml").read_text())))

    topology = describe(document)

    check(topology)
    assert [host.name for host in topology.hosts] == ["host1-1", "host1-2", "big", "iron"]


def test_the_example_policy_is_valid_and_the_one_in_examples() -> None:
    """One text, shipped with the package and shown among the examples."""
    policies = example_policy()

    assert [problem for policy in policies for problem in problems_of(policy)] == []
    assert (EXAMPLES / "policy.yaml").read_text().count("\nkind: ") == len(policies) == 8
