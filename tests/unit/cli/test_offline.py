"""``validate``, ``convert`` and ``schema``: what needs no store, and asks none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calico.model import codec
from support.calicoctl import Run, calicoctl

HEAD = "---\napiVersion: projectcalico.org/v3\n"
TIER = f"{HEAD}kind: Tier\nmetadata: {{name: security}}\nspec: {{order: 1}}\n"
POLICY = f"{HEAD}kind: NetworkPolicy\nmetadata: {{name: web}}\nspec: {{tier: security}}\n"
BROKEN = f"{HEAD}kind: IPPool\nmetadata: {{name: one}}\nspec: {{cidr: 10.0.0.0/33, blcksize: 26}}\n"
OLD = "apiVersion: v1\nkind: policy\nmetadata: {name: web}\nspec: {ingress: [{action: allow}]}\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run calicoctl where no store can be found or made."""
    for variable in ("DATA", "RUN", "CONFIG"):
        monkeypatch.setenv(f"CALICO_{variable}_DIR", "/proc/none")
    monkeypatch.setenv("DATASTORE_TYPE", "kubernetes")
    monkeypatch.chdir(tmp_path)
    return calicoctl


# --- validate ----------------------------------------------------------------------------------------


def test_good_manifests_are_counted(run: Run) -> None:
    """In calicoctl's sentence, without a warning."""
    result = run("validate", "-f", "-", stdin=TIER + POLICY)
    assert (result.stdout, result.stderr) == ("Successfully validated 2 resource(s)\n", "")
    assert run("validate", "-f", "-", stdin=TIER).stdout == "Successfully validated 1 'Tier' resource(s)\n"


def test_everything_that_is_wrong_with_all_files_is_said(run: Run, tmp_path: Path) -> None:
    """Status 1; nothing is said of changes, since none were asked for."""
    (tmp_path / "a.yaml").write_text(BROKEN)
    (tmp_path / "b.yaml").write_text("kind: [")
    result = run("validate", "-f", "a.yaml", "-f", "b.yaml", status=1)
    assert "IPPool/one: spec.blcksize: there is no field 'blcksize'" in result.stderr
    assert "a.yaml:5:14: IPPool/one: spec.cidr: '10.0.0.0/33' has no valid prefix length" in result.stderr
    assert "b.yaml:1:7: " in result.stderr
    assert result.stderr.endswith("problems found\n")
    assert "changed" not in result.stderr
    assert result.stdout == ""


def test_problems_as_data(run: Run) -> None:
    """One document on standard output, also when there is nothing to say."""
    found = json.loads(run("validate", "-f", "-", "-o", "json", stdin=BROKEN, status=1).stdout)["problems"]
    assert ("spec.blcksize", "error") in {(each["field"], each["severity"]) for each in found}
    assert json.loads(run("validate", "-f", "-", "-o", "json", stdin=TIER).stdout) == {"problems": []}


def test_a_tier_that_only_the_store_can_have_is_a_warning(run: Run) -> None:
    """With its place; the tiers of every cluster are none."""
    result = run("validate", "-f", "-", stdin=POLICY)
    assert (
        "<stdin>:5:14: warning: NetworkPolicy/default/web: spec.tier: the tier 'security' is not in"
        in result.stderr
    )
    assert result.stdout == "Successfully validated 1 'NetworkPolicy' resource(s)\n"
    assert run("validate", "-f", "-", stdin=POLICY.replace("security", "kube-admin")).stderr == ""


# --- convert -----------------------------------------------------------------------------------------


def test_old_manifests_become_todays(run: Run, tmp_path: Path) -> None:
    """On standard output, as they can be applied."""
    (tmp_path / "old.yaml").write_text(OLD)
    text = run("convert", "-f", "old.yaml").stdout
    (policy,) = codec.load(text)
    assert (policy.kind, policy.metadata.name) == ("GlobalNetworkPolicy", "default.web")
    assert (
        json.loads(run("convert", "-f", "-", "-o", "json", stdin=OLD).stdout)["kind"] == "GlobalNetworkPolicy"
    )
    several = run("convert", "-f", "-", stdin=OLD + "---\n" + OLD.replace("web", "db")).stdout
    assert len(codec.load(several)) == 2


def test_nothing_is_converted_unless_everything_can_be(run: Run) -> None:
    """Half of it would be taken for the whole."""
    result = run("convert", "-f", "-", stdin=f"{OLD}---\n{OLD.replace('allow', 'alow')}", status=1)
    assert result.stdout == ""
    assert "spec.ingress[0].action: 'alow' is no action; did you mean allow" in result.stderr


def test_what_was_valid_once_and_is_not_today(run: Run) -> None:
    """Is said with its place, and printed only on demand."""
    old = OLD.replace("{action: allow}", "{action: allow, icmp: {type: 8}}")
    result = run("convert", "-f", "-", stdin=old, status=1)
    assert "<stdin>:4:34: policy/web: spec.ingress[0].icmp: an ICMP match needs" in result.stderr
    assert "--ignore-validation" in result.stderr
    assert result.stdout == ""
    ignored = run("convert", "-f", "-", "--ignore-validation", stdin=old)
    assert "kind: GlobalNetworkPolicy" in ignored.stdout
    assert "an ICMP match needs" in ignored.stderr


def test_an_empty_conversion_is_an_error(run: Run) -> None:
    """It is surely the wrong file."""
    assert "there is no resource" in run("convert", "-f", "-", stdin="---\n", status=1).stderr


# --- schema ------------------------------------------------------------------------------------------


def test_schema_of_a_kind_by_any_name(run: Run) -> None:
    """One kind, several, or all."""
    one = json.loads(run("schema", "np").stdout)
    assert (one["$schema"].rsplit("/", 2)[1], one["title"]) == ("2020-12", "NetworkPolicy")
    several = json.loads(run("schema", "np", "gnp").stdout)
    assert several["properties"]["kind"]["enum"] == ["GlobalNetworkPolicy", "NetworkPolicy"]
    assert "IPPool" in json.loads(run("schema", "--all").stdout)["properties"]["kind"]["enum"]


def test_schema_needs_a_kind_or_all(run: Run) -> None:
    """Status 2, and what there is."""
    assert "say which KIND" in run("schema", status=2).stderr
    assert "say which KIND" in run("schema", "np", "--all", status=2).stderr
    assert "did you mean 'networkpolicy'" in run("schema", "networkpolcy", status=2).stderr
