"""calicoctl datastore migrate: lock, export, import, unlock, from any store to any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from calico.cli.main import root
from support import etcd as servers

Calicoctl = Callable[..., Result]
MANIFEST = """
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security, annotations: {note: "a && b"}}
spec: {order: 1}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.deny}
spec: {tier: security, selector: all(), types: [Ingress]}
"""


@pytest.fixture
def calicoctl(tmp_path: Path) -> Calicoctl:
    def run(*words: str, stdin: str | None = None) -> Result:
        environment = {
            "CALICO_DATA_DIR": str(tmp_path / "data"),
            "CALICO_RUN_DIR": str(tmp_path / "run"),
            "CALICO_CONFIG_DIR": str(tmp_path / "etc"),
        }
        return CliRunner().invoke(root, words, input=stdin, env=environment, catch_exceptions=False)

    return run


@pytest.fixture
def source(calicoctl: Calicoctl, tmp_path: Path) -> tuple[str, str]:
    """A store that holds something."""
    place = ("--datastore-path", str(tmp_path / "a.db"))
    assert calicoctl(*place, "apply", "-f", "-", stdin=MANIFEST).exit_code == 0
    return place


def _stored(calicoctl: Calicoctl, place: tuple[str, str]) -> object:
    done = calicoctl(*place, "get", "tiers", "-o", "json"), calicoctl(*place, "get", "gnp", "-o", "json")
    trees = [json.loads(each.stdout) for each in done]
    for tree in trees:
        for item in tree.get("items", [tree]):
            del item["metadata"]["resourceVersion"]
    return trees


def test_everything_moves_and_stays_locked(
    calicoctl: Calicoctl, source: tuple[str, str], tmp_path: Path
) -> None:
    """In the steps that users of Calico know; identities stay."""
    target = ("--datastore-path", str(tmp_path / "b.db"))
    assert calicoctl(*source, "datastore", "migrate", "lock").stdout == "Datastore locked.\n"
    exported = calicoctl(*source, "datastore", "migrate", "export").stdout
    done = calicoctl(*target, "datastore", "migrate", "import", "-f", "-", stdin=exported)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "1 GlobalNetworkPolicy" in done.stdout
    assert "The store is locked" in done.stdout
    assert _stored(calicoctl, target) == _stored(calicoctl, source)
    again = calicoctl(*target, "datastore", "migrate", "export").stdout
    assert again.splitlines()[1:] == exported.splitlines()[1:]
    assert calicoctl(*target, "datastore", "migrate", "unlock").stdout == "Datastore unlocked.\n"
    assert calicoctl(*target, "datastore", "migrate", "export").exit_code == 1


@servers.needs_etcd
def test_everything_moves_to_etcd_and_back(
    calicoctl: Calicoctl, source: tuple[str, str], tmp_path: Path
) -> None:
    """Both directions lose nothing."""
    prefix = servers.own_prefix()
    endpoint = str(servers.shared().settings(prefix=prefix).endpoints[0])
    configuration = tmp_path / "etcd.cfg"
    configuration.write_text(
        f"kind: CalicoAPIConfig\nspec: {{etcdEndpoints: '{endpoint}', etcdPrefix: '{prefix.rstrip('/')}'}}\n"
    )
    etcd, back = ("--config", str(configuration)), ("--datastore-path", str(tmp_path / "back.db"))
    calicoctl(*source, "datastore", "migrate", "lock")
    for one, other in ((source, etcd), (etcd, back)):
        exported = calicoctl(*one, "datastore", "migrate", "export").stdout
        done = calicoctl(*other, "datastore", "migrate", "import", "-f", "-", stdin=exported)
        assert (done.exit_code, done.stderr) == (0, "")
    assert _stored(calicoctl, back) == _stored(calicoctl, etcd) == _stored(calicoctl, source)


def test_an_unlocked_store_is_not_exported(calicoctl: Calicoctl, source: tuple[str, str]) -> None:
    """What is written after the export would be lost; the sentence says what to do."""
    done = calicoctl(*source, "datastore", "migrate", "export")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "calicoctl datastore migrate lock" in done.stderr


def test_a_store_in_use_is_not_imported_into(calicoctl: Calicoctl, source: tuple[str, str]) -> None:
    """What it holds is said; it is as it was."""
    calicoctl(*source, "datastore", "migrate", "lock")
    exported = calicoctl(*source, "datastore", "migrate", "export").stdout
    calicoctl(*source, "datastore", "migrate", "unlock")
    calicoctl(*source, "delete", "gnp", "security.deny")
    other = MANIFEST.replace("security.deny", "security.other")
    calicoctl(*source, "apply", "-f", "-", stdin=other)
    before = _stored(calicoctl, source)
    done = calicoctl(*source, "datastore", "migrate", "import", "-f", "-", stdin=exported)
    assert done.exit_code == 1
    assert "the store is not empty: it holds 1 GlobalNetworkPolicy" in done.stderr
    assert _stored(calicoctl, source) == before


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [("", "standard input is no export"), ("===\n===\n", "is no JSON"), ("\udcff", "is not UTF-8")],
)
def test_what_is_no_export_makes_no_store(
    calicoctl: Calicoctl, tmp_path: Path, stdin: str, sentence: str
) -> None:
    """The file is judged before anything is opened."""
    text = stdin.encode(errors="surrogateescape")
    done = CliRunner().invoke(
        root,
        ["--datastore-path", str(tmp_path / "b.db"), "datastore", "migrate", "import", "-f", "-"],
        input=text,
    )
    assert (done.exit_code, sentence in done.stderr) == (1, True)
    assert not (tmp_path / "b.db").exists()
    missing = calicoctl("datastore", "migrate", "import", "-f", str(tmp_path / "none"))
    assert (missing.exit_code, "No such file" in missing.stderr) == (1, True)


def test_unlocking_and_exporting_make_no_store(calicoctl: Calicoctl, tmp_path: Path) -> None:
    """A file made by looking would be this host's store from then on."""
    for command in ("unlock", "export"):
        calicoctl("--datastore-path", str(tmp_path / "b.db"), "datastore", "migrate", command)
    assert not (tmp_path / "b.db").exists()


def test_an_edited_export_is_imported_when_that_is_meant(
    calicoctl: Calicoctl, source: tuple[str, str], tmp_path: Path
) -> None:
    """People rename things on the way; a slip of the finger is told apart by a flag."""
    calicoctl(*source, "datastore", "migrate", "lock")
    edited = calicoctl(*source, "datastore", "migrate", "export").stdout.replace("a && b", "changed")
    command = ("--datastore-path", str(tmp_path / "b.db"), "datastore", "migrate", "import", "-f", "-")
    assert "was changed since it was made" in calicoctl(*command, stdin=edited).stderr
    assert calicoctl(*command, "--allow-changed", stdin=edited).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["datastore"],
        ["datastore", "migrate"],
        *(["datastore", "migrate", verb] for verb in ("lock", "unlock", "export", "import")),
        ["backup"],
        ["restore"],
    ],
    ids=" ".join,
)
def test_help_has_an_example_and_the_exit_status(calicoctl: Calicoctl, words: list[str]) -> None:
    """Each command's help is all that a person needs."""
    shown = calicoctl(*words, "--help").stdout
    assert "Example" in shown
    assert f"calicoctl {words[0]}" in shown
    assert "Exit status: 0" in shown
