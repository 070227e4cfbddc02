"""Beside Docker, firewalld, ufw and kube-proxy: their rules stay what they are, and where they drop, the agent says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import foreign
from support.attack import A4, B4, O4, OPEN, SHUT, Field, under_attack
from support.host import Host, eventually, workload_endpoint
from support.netns import needs_root

pytestmark = [pytest.mark.root, needs_root]
BACKENDS = ["nftables", "iptables-nft", "iptables-legacy"]


def warnings(host: Host) -> list[str]:
    return [text for text in host.status()["warnings"] if text.startswith("foreign: ")]


def comes_through(field: Field, goal: str = B4, port: int = OPEN) -> bool:
    """Whether a new flow from the outside reaches b."""
    return field.comes_out(O4, goal, port) == {"b"}


def look_again(host: Host) -> None:
    """The agent looks at the rules of others when it starts, and when it is told of a change: a start is quicker here."""
    host.kill()
    host.start()


@pytest.mark.parametrize("backend", BACKENDS)
def test_rules_of_others_stay_byte_for_byte(backend: str, tmp_path: Path) -> None:
    """Written behind ours or in front of them, they are untouched by changes, restarts, repairs and our removal."""
    with under_attack(backend, tmp_path) as field:
        host, inside = field.host, field.host.namespace
        variant = "legacy" if backend == "iptables-legacy" else "nft"
        # Behind ours.
        for text in (foreign.DOCKER, foreign.UFW, foreign.KUBE_PROXY):
            foreign.restore(inside, variant, text)
        inside.run("nft", "-f", "-", stdin=foreign.FIREWALLD + foreign.KUBE_PROXY_NFT)
        before = foreign.theirs(inside)
        assert all(
            word in before for word in ("DOCKER-USER", "ufw-reject", "KUBE-SEP-B", "filter_FWDI", "service-b")
        )
        field.cloud.apply(workload_endpoint("host", "a", A4, labels="{app: a, turn: one}"))
        eventually(
            lambda: "fd00:65::2" not in inside.run("ip", "-6", "route").stdout,
            what="the change is programmed",
        )
        assert foreign.theirs(inside) == before
        look_again(host)
        assert foreign.theirs(inside) == before
        host.stop()
        assert host.calicoctl("agent", "remove", "--yes").returncode == 0
        assert foreign.theirs(inside) == before
        assert "cali" not in inside.run("nft", "list", "ruleset").stdout
        # In front of ours.
        host.start()
        assert foreign.theirs(inside) == before
        field.cloud.apply(workload_endpoint("host", "a", A4, labels="{app: a, turn: two}"))
        if backend == "nftables":
            inside.run("nft", "flush", "chain", "ip", "calico", "filter-FORWARD")
        eventually(lambda: host.status()["lastChange"], what="the change is programmed")
        assert foreign.theirs(inside) == before
        host.stop()
        assert host.calicoctl("agent", "remove", "--yes").returncode == 0
        assert foreign.theirs(inside) == before


@pytest.mark.parametrize("variant", ["nft", "legacy"])
@pytest.mark.parametrize("text", [foreign.DOCKER, foreign.UFW], ids=["docker", "ufw"])
def test_iptables_accepts_behind_a_policy_that_drops(text: str, variant: str, tmp_path: Path) -> None:
    """Docker's and ufw's FORWARD policy is for what nobody has accepted: what our policy allows passes, the rest does not."""
    with under_attack(f"iptables-{variant}", tmp_path) as field:
        foreign.restore(field.host.namespace, variant, text)
        assert comes_through(field)
        assert not comes_through(field, port=SHUT)
        look_again(field.host)
        assert comes_through(field)
        assert warnings(field.host) == []


@pytest.mark.parametrize("variant", ["nft", "legacy"])
def test_on_nftables_a_policy_that_drops_is_named_with_its_remedy(variant: str, tmp_path: Path) -> None:
    """Docker's FORWARD policy wins over our accept; the agent names it, and what it advises helps."""
    with under_attack("nftables", tmp_path) as field:
        inside = field.host.namespace
        foreign.restore(inside, variant, foreign.DOCKER)
        look_again(field.host)
        said = eventually(lambda: warnings(field.host), what="the agent names the policy")
        assert len(said) == 1
        assert (
            "the forward chain FORWARD of table ip filter can drop what policy allows: its policy, drop"
            in said[0]
        )
        assert not comes_through(field)
        for command in re.findall(r"iptables (-I FORWARD [^;]*ACCEPT)", said[0]):
            inside.run(f"iptables-{variant}", *command.replace("FORWARD", "DOCKER-USER").split())
        eventually(lambda: comes_through(field), what="what policy allows passes")
        assert not comes_through(field, port=SHUT)
        look_again(field.host)
        if variant == "nft":
            eventually(lambda: not warnings(field.host), what="nothing is left to say")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reject_of_firewalld_is_named_with_its_remedy(backend: str, tmp_path: Path) -> None:
    """The reject at the end of firewalld's forward chain wins on every back end, until it trusts the interfaces."""
    with under_attack(backend, tmp_path) as field:
        inside = field.host.namespace
        inside.run("nft", "-f", "-", stdin=foreign.FIREWALLD)
        assert not comes_through(field)
        look_again(field.host)
        said = eventually(lambda: warnings(field.host), what="the agent names the reject")
        assert len(said) == 1
        assert "filter_FORWARD of table inet firewalld" in said[0]
        assert "a reject in chain filter_FORWARD (handle " in said[0]
        assert "--zone=trusted --add-interface=cali+" in said[0]
        # What firewalld makes of a trusted zone.
        for key in ("iifname", "oifname"):
            inside.run("nft", "insert", "rule", "inet", "firewalld", "filter_FORWARD", key, "cali*", "accept")
        assert comes_through(field)
        look_again(field.host)
        eventually(
            lambda: field.host.status().get("programmed") and not warnings(field.host),
            what="nothing is left to say",
        )


def test_a_change_of_others_is_seen_without_a_restart(tmp_path: Path) -> None:
    """A table that comes while the agent runs is named a little later, and forgotten when it goes."""
    with under_attack("nftables", tmp_path) as field:
        inside = field.host.namespace
        inside.run("nft", "-f", "-", stdin=foreign.FIREWALLD)
        eventually(lambda: warnings(field.host), within=30, what="the agent names the reject")
        shown = field.host.calicoctl("agent", "status").stdout
        assert "Warning:" in shown
        assert "firewalld" in shown
        inside.run("nft", "delete", "table", "inet", "firewalld")
        eventually(lambda: not warnings(field.host), within=30, what="it is forgotten")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["iptables", "nftables"])
def test_policy_judges_what_kube_proxy_has_translated(backend: str, kind: str, tmp_path: Path) -> None:
    """A service's address leads to its workload, whose policy sees the workload's port; kube-proxy is no cause to warn."""
    with under_attack(backend, tmp_path) as field:
        inside = field.host.namespace
        if kind == "iptables":
            foreign.restore(inside, "legacy" if backend == "iptables-legacy" else "nft", foreign.KUBE_PROXY)
        else:
            inside.run("nft", "-f", "-", stdin=foreign.KUBE_PROXY_NFT)
        assert comes_through(field, goal="10.96.0.10", port=53)
        assert not comes_through(field, goal="10.96.0.10", port=SHUT)
        look_again(field.host)
        assert comes_through(field, goal="10.96.0.10", port=53)
        assert warnings(field.host) == []
