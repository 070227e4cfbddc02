"""``calicoctl datastore roles``: what it prints, and for which etcd."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calico.cli.main import root

ELSEWHERE = {"DATASTORE_TYPE": "", "ETCD_ENDPOINTS": "", "CALICO_SQLITE_PATH": "", "ETCD_PREFIX": ""}


def roles(tmp_path: Path, *words: str, **environment: str) -> Result:
    """Run the command where nothing else says which store is meant."""
    places = {f"CALICO_{name}_DIR": str(tmp_path) for name in ("DATA", "RUN", "CONFIG")}
    return CliRunner().invoke(root, ["datastore", "roles", *words], env=ELSEWHERE | places | environment)


def commands(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if line and not line.startswith("#")]


def test_roles_alone(tmp_path: Path) -> None:
    """Without users only roles are made, of a cluster without a prefix; no store is made by asking."""
    printed = commands(roles(tmp_path))

    assert "etcdctl role grant-permission --prefix=true calico-reader read /calico/" in printed
    assert not any(" user " in line for line in printed)
    assert not any(tmp_path.iterdir())


def test_users_of_each_role(tmp_path: Path) -> None:
    """Each option makes users of its role, with certificates if they have them."""
    words = "--certificates --agent h1 --agent h2 --host-endpoints h2 --operator alice --reader board"
    printed = commands(roles(tmp_path, *words.split()))

    assert [line for line in printed if " user " in line] == [
        "etcdctl user add --no-password h1",
        "etcdctl user grant-role h1 calico-agent",
        "etcdctl user add --no-password h2",
        "etcdctl user grant-role h2 calico-agent",
        "etcdctl user grant-role h2 calico-host-endpoints",
        "etcdctl user add --no-password alice",
        "etcdctl user grant-role alice calico-operator",
        "etcdctl user add --no-password board",
        "etcdctl user grant-role board calico-reader",
    ]


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["--prefix", "/b"], {}),
        (["--prefix", "/b/"], {"ETCD_ENDPOINTS": "http://e:2379", "ETCD_PREFIX": "/other"}),
        ([], {"ETCD_ENDPOINTS": "http://e:2379", "ETCD_PREFIX": "/b/"}),
    ],
    ids=["option", "option wins", "environment"],
)
def test_prefix(tmp_path: Path, words: list[str], environment: dict[str, str]) -> None:
    """The prefix is the option's, else that of the store which is configured."""
    printed = commands(roles(tmp_path, *words, **environment))

    assert "etcdctl role grant-permission --prefix=true calico-operator/b readwrite /b/calico/" in printed


def test_prefix_of_the_configuration(tmp_path: Path) -> None:
    """The prefix of calicoctl.cfg counts, too."""
    (tmp_path / "calicoctl.cfg").write_text(
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n"
        '  etcdEndpoints: "http://e:2379"\n  etcdPrefix: /c\n'
    )
    assert "etcdctl role add calico-agent/c" in commands(roles(tmp_path))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--agent", "root"], "root may do everything"),
        (["--reader", "a:b"], "has a colon"),
        (["--prefix", "b"], "write /b"),
    ],
)
def test_what_makes_no_sense(tmp_path: Path, words: list[str], sentence: str) -> None:
    """What cannot be a user or a prefix is refused with a reason, and nothing is printed."""
    result = roles(tmp_path, *words)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not result.stdout
