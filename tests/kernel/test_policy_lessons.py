"""What other packet filters of this kind got wrong in the kernel: answers, others' flows, names, leftovers, look-ups."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    PoolRow,
    TierRow,
)
from calico.model.address import Family, parse_cidr
from calico.model.settings import Settings
from calico.programming.backend import ProgrammingError
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig, nets, rule, table
from support.netns import needs_root
from support.packets import ADDRESS, ICMP, ICMP6, INTERFACE, UDP, Probe
from support.rows import PROFILES, host, workload

pytestmark = [pytest.mark.root, needs_root]

CLOSED = (TierRow("default", "Deny", ()),)
W1_ONLY = Settings(interface_prefix=("cali1",))
"""With these the interface of w2 is one of the host's own, and w2 somebody beside it."""


@pytest.fixture(scope="module", params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-lessons", tmp_path_factory.mktemp("lock")) as made:
        yield made


@pytest.fixture
def rig(home: Rig) -> Iterator[Rig]:
    """The back end with nothing programmed; what the test programs goes away after it."""
    home.world.forget_flows()
    yield home
    if home.backend.name != "nftables":
        host_policy(home, "ACCEPT")
    home.inside(home.backend.remove)


def tool(rig: Rig, name: str) -> str:
    """The back end's own program; nothing of the kind on nftables."""
    return name + rig.backend.name.removeprefix("iptables")


def run(rig: Rig, *command: str) -> str:
    environment = {"XTABLES_LOCKFILE": str(rig.lock_file)}
    return rig.world.host.run(*command, env=environment).stdout


def host_policy(rig: Rig, policy: str) -> None:
    """What the host's own chains do with packets that no rule decides."""
    for program in ("iptables", "ip6tables"):
        for chain in ("INPUT", "FORWARD", "OUTPUT"):
            run(rig, tool(rig, program), "-w", "-P", chain, policy)


def program(
    rig: Rig,
    *endpoints: tuple[EndpointId, EndpointRow],
    settings: Settings = W1_ONLY,
    pools: tuple[str, ...] = (),
) -> None:
    """Make these endpoints all that there is, beside a profile that allows everything."""
    renderer = Renderer(settings)
    renderer.update(
        Delta(
            profiles=PROFILES,
            endpoints=dict(endpoints),
            pools={parse_cidr(pool): PoolRow(nat_outgoing=True) for pool in pools},
        ),
        {"lo": frozenset(), "eth0": frozenset(), "cali1": frozenset(), "cali2": frozenset()},
    )
    rig.load(*renderer.tables.values())
    assert rig.check() == []


def flow(source: str, destination: str, family: Family, port: int) -> tuple[Probe, Probe]:
    """A flow's first packet, and the answer to it."""
    return (
        Probe(source, destination, family, sport=port, dport=80),
        Probe(destination, source, family, sport=80, dport=port),
    )


# --- flows


@pytest.mark.parametrize("home", [name for name in NAMES if name != "nftables"], indirect=True)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_pass_a_host_that_drops_by_default(rig: Rig, family: Family) -> None:
    """Where the host's own chains drop what nobody accepts, flows of endpoints have their answers all the same.

    Not on nftables: there every chain has to let them pass, and the agent warns of those that do not.
    """
    host_policy(rig, "DROP")
    program(rig, workload("w1", ingress=CLOSED), host(egress=CLOSED))
    through, into = flow("w1", "outside", family, 7100), flow("outside", "host", family, 7200)

    assert rig.passes(*through, *into) == [True] * 4
    assert rig.passes(
        Probe("outside", "w1", family, sport=80, dport=7101),
        Probe("host", "outside", family, sport=80, dport=7201),
    ) == [False, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_flows_of_others_are_left_to_the_hosts_own_rules(rig: Rig, family: Family) -> None:
    """What passes between interfaces that have no endpoints is not dropped, be it new, known or of no valid flow; nor accepted."""
    program(rig, workload("w1"))
    first, answer = flow("w2", "outside", family, 7300)
    stray = Probe(
        "w2",
        "outside",
        family,
        protocol=ICMP if family == 4 else ICMP6,
        icmp=(0 if family == 4 else 129, 0),
    )
    assert rig.passes(first, answer, stray) == [True] * 3
    assert rig.passes(replace(stray, source="w1")) == [False]
    if rig.backend.name == "nftables":
        return

    host_policy(rig, "DROP")

    assert rig.passes(first, answer, Probe("w2", "outside", family)) == [False] * 3
    assert rig.passes(*flow("w1", "outside", family, 7301)) == [True] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_translated_sources_get_ports_at_random(rig: Rig, family: Family) -> None:
    """Many flows that are translated to one address at once do not race for the same ports."""
    program(rig, workload("w1"), pools=("10.65.0.0/24", "fd65::/64"))
    ports = range(31000, 31020)

    arrivals = rig.send(*(Probe("w1", "outside", family, sport=port, dport=53) for port in ports))

    seen = [arrival and (arrival.source_address, arrival.sport) for arrival in arrivals]
    assert {address for address, _ in filter(None, seen)} == {ADDRESS["host"][family]}
    shifts = {port - arrival[1] for port, arrival in zip(ports, filter(None, seen), strict=True)}
    assert len(shifts) > 1, "all ports were kept, or moved alike"
    listed = {
        "nftables": ("nft", "list", "ruleset"),
        "iptables-nft": ("iptables-nft-save" if family == 4 else "ip6tables-nft-save", "-t", "nat"),
        "iptables-legacy": ("iptables-legacy-save" if family == 4 else "ip6tables-legacy-save", "-t", "nat"),
    }
    assert re.search("fully-random|--random-fully", run(rig, *listed[rig.backend.name]))


# --- names


@pytest.mark.parametrize("name", NAMES)
def test_interfaces_are_told_apart_by_their_whole_odd_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names with dashes and other signs, as long as the kernel takes them, one the beginning of the other: each has its own policy."""
    monkeypatch.setitem(INTERFACE, "w1", "cali-a_b@c-")
    monkeypatch.setitem(INTERFACE, "w2", "cali-a_b@c-0123")
    with make_rig(name, "t-lessons-n", tmp_path) as rig:
        try:
            for ingress, expected in ((CLOSED, False), ((), True)):
                program(rig, workload("w1", ingress=ingress), workload("w2"), settings=Settings())
                for family in FAMILIES:
                    assert rig.passes(
                        Probe("outside", "w1", family), Probe("outside", "w2", family), Probe("w2", "outside", family)
                    ) == [expected, True, True]  # fmt: skip
        finally:
            rig.inside(rig.backend.remove)


ALIKE: Final = """
nft add table inet calico
nft add chain inet calico filter-FORWARD '{ type filter hook forward priority 7; }'
nft add rule inet calico filter-FORWARD counter accept
nft add table ip calico2
nft add chain ip calico2 cali-fw
ipset create cali4 hash:net
ipset create cali6x hash:net family inet6
ipset create mycali40x hash:net
"""
ALIKE_CHAINS: Final = ("cali", "cali_fw", "calico-fw", "Cali-fw", "KUBE-cali-fw")
ALIKE_AWAY: Final = """
nft delete table inet calico
nft delete table ip calico2
ipset destroy cali4; ipset destroy cali6x; ipset destroy mycali40x
"""


def test_what_is_named_nearly_like_ours_is_not_ours(rig: Rig) -> None:
    """Tables, chains and sets of others whose names only resemble ours survive a restart's pruning and our removal."""
    iptables = "iptables-nft" if rig.backend.name == "nftables" else tool(rig, "iptables")

    def theirs() -> list[str]:
        parts = [
            run(rig, "nft", "-a", "list", "table", "inet", "calico"),
            run(rig, "nft", "-a", "list", "table", "ip", "calico2"),
            "\n".join(line for line in run(rig, "ipset", "save").splitlines() if "cali40s" not in line),
            *(run(rig, iptables, "-w", "-S", chain) for chain in ALIKE_CHAINS),
        ]
        return [re.sub(r"packets \d+ bytes \d+|initval \S+", "", part) for part in parts]

    try:
        run(rig, "sh", "-e", "-c", ALIKE)
        for chain in ALIKE_CHAINS:
            run(rig, iptables, "-w", "-N", chain)
            run(rig, iptables, "-w", "-A", chain, "-s", "10.99.0.1", "-j", "RETURN")
        before = theirs()
        program(rig, workload("w1"), settings=Settings())
        rig.backend = rig.fresh()
        rig.load()
        assert theirs() == before
        rig.inside(rig.backend.remove)
        assert theirs() == before
    finally:
        run(rig, "sh", "-c", ALIKE_AWAY)
        for chain in ALIKE_CHAINS:
            run(rig, iptables, "-w", "-F", chain)
            run(rig, iptables, "-w", "-X", chain)


# --- what is written, and what is not


def small() -> ast.Table:
    """Two chains: one that tests change, and one that they let alone."""

    def ports(number: int) -> tuple[ast.Match, ...]:
        return (ast.Protocol(UDP), ast.Ports("destination", ((number, number),)))

    return table(
        4,
        {
            "filter-FORWARD": [rule(ast.Jump("cali-changed")), rule(ast.Jump("cali-kept"))],
            "cali-changed": [rule(*ports(81), ast.Drop())],
            "cali-kept": [replace(rule(*ports(82), ast.Drop()), counted=True)],
        },
        {"cali40src": ("net", nets("10.65.0.1"))},
    )


CHANGED: Final = ast.Change(4, chains={"cali-changed": ast.Chain((rule(ast.Protocol(UDP), ast.Accept()),))})


def test_a_change_of_one_chain_leaves_the_others_as_they_stand(rig: Rig) -> None:
    """Changed or repaired, one chain is written alone: the rules of another are the same ones, with their counts."""

    def kept() -> str:
        if rig.backend.name == "nftables":
            return run(rig, "nft", "-a", "list", "chain", "ip", "calico", "cali-kept")
        return run(rig, tool(rig, "iptables"), "-w", "-v", "-S", "cali-kept")

    rig.load(small())
    assert rig.passes(Probe("w1", "w2", dport=82)) == [False]
    before = kept()
    assert re.search(r"packets 1 |-c 1 ", before)

    rig.apply(CHANGED)
    assert kept() == before
    if rig.backend.name == "nftables":
        run(rig, "nft", "flush", "chain", "ip", "calico", "cali-changed")
    else:
        run(rig, tool(rig, "iptables"), "-w", "-F", "cali-changed")
    assert [drift.what.partition(" in ")[0] for drift in rig.sync()] == ["chain cali-changed"]
    assert kept() == before


def test_a_table_that_has_gone_is_missed_whatever_is_done_next(rig: Rig) -> None:
    """A change to what somebody took away meanwhile ends neither the back end nor unnoticed: the next sync brings all of it back."""
    rig.load(small())
    if rig.backend.name == "nftables":
        run(rig, "nft", "delete", "table", "ip", "calico")
    else:
        run(rig, tool(rig, "iptables"), "-w", "-F")
        run(rig, tool(rig, "iptables"), "-w", "-X")
    with contextlib.suppress(ProgrammingError):
        rig.apply(CHANGED)
        rig.apply(ast.Change(4, chains={"cali-changed": small().chains["cali-changed"]}))
    rig.loaded[4] = small()

    assert rig.check() != []
    assert rig.sync() != []
    assert rig.check() == []
    assert rig.passes(Probe("w1", "w2", dport=81), Probe("w1", "w2", dport=82)) == [False, False]


def test_a_set_left_with_other_parameters_is_made_anew() -> None:
    """A former release's set of the same name, of another type and looked up by a rule, does not stop a start on nftables."""
    with make_rig("nftables", "t-lessons-s", Path("/nonexistent")) as rig:
        run(
            rig,
            "nft",
            "table ip calico {"
            " set cali40src { type ipv4_addr . inet_proto . inet_service; elements = { 10.65.0.2 . udp . 80 }; };"
            " chain filter-FORWARD { type filter hook forward priority 0;"
            " ip saddr . meta l4proto . th dport @cali40src drop; }; }",
        )
        drops = [rule(ast.InSet("source", "cali40src"), ast.Drop())]
        rig.load(table(4, {"filter-FORWARD": drops}, {"cali40src": ("net", nets("10.65.0.1"))}))

        assert rig.passes(Probe("w1", "w2"), Probe("w2", "w1")) == [False, True]
        assert rig.check() == []


# --- names are nobody's business

WORK: Final = """
import subprocess, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from calico.ruleset import ast
from support.backends import make_backend, nets, rule, table
desired = {{4: table(4, {{"filter-FORWARD": [rule(ast.InSet("source", "cali40src"), ast.Drop()), rule(ast.Address("source", nets("10.65.0.1")[0]), ast.Drop())]}}, {{"cali40src": ("net", nets("10.65.0.1"))}})}}
backend = make_backend({name!r}, Path({lock!r}))
backend.sync(desired)
backend.check(desired)
make_backend({name!r}, Path({lock!r})).sync(desired)
backend.remove()
"""


def test_nobody_is_asked_for_the_names_of_addresses(rig: Rig, tmp_path: Path) -> None:
    """Whatever is written, read back and removed: no name server hears of it, and none that is slow can delay it."""
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    text = WORK.format(tests=str(Path(__file__).parents[1]), name=rig.backend.name, lock=str(rig.lock_file))

    def asks(*command: str) -> bool:
        """Whether a program, where the name server is ours, asks it anything."""
        with rig.inside(_name_server) as server:
            run(
                rig,
                "unshare",
                "--mount",
                "sh",
                "-e",
                "-c",
                'mount --bind "$0" /etc/resolv.conf; "$@" || test "$1" = getent',
                str(resolver),
                *command,
            )
            return bool(select.select([server], [], [], 0)[0])

    assert asks("getent", "hosts", "10.65.0.1")
    assert not asks(sys.executable, "-c", text)


def _name_server() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    return server
