"""The nftables back end against the real kernel: repair of what others did, and nothing foreign touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import pytest

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    PoolRow,
    PortMember,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
)
from calico.model.address import Cidr, Family, parse_address, parse_cidr
from calico.model.settings import Settings
from calico.programming.backend import Drift, Rejected
from calico.programming.libnftables import Library, Program, TooBig
from calico.programming.nft import Nftables
from calico.rendering.renderer import Renderer
from calico.ruleset import ast
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]
T = TypeVar("T")

WEB = PolicyId("GlobalNetworkPolicy", "", "web")
WORKLOAD = EndpointId("WorkloadEndpoint", "default", "one")
FOREIGN = """table ip filter {
    chain FORWARD { type filter hook forward priority 0; policy accept; ip saddr 10.9.9.9 counter drop; }
}
table inet calico { set s { type ipv4_addr; elements = { 10.9.9.9 }; }; }
"""


class Host:
    """A host with a rendered ruleset, and its back end in a namespace."""

    def __init__(self, space: Namespace) -> None:
        self.space = space
        self.renderer = Renderer(Settings())
        self.backend = Nftables()
        self.update(intent())

    def update(self, delta: Delta) -> list[ast.Change]:
        return self.renderer.update(delta)

    @property
    def desired(self) -> Mapping[Family, ast.Table]:
        return self.renderer.tables

    def inside(self, function: Callable[[], T]) -> T:
        return self.space.call(function)

    def sync(self) -> list[Drift]:
        return self.inside(lambda: self.backend.sync(self.desired))

    def check(self) -> list[Drift]:
        return self.inside(lambda: self.backend.check(self.desired))

    def apply(self, changes: list[ast.Change]) -> None:
        self.inside(lambda: self.backend.apply(changes))

    def nft(self, *words: str) -> str:
        return self.space.run("nft", *words).stdout

    def ruleset(self) -> str:
        return self.nft("-s", "list", "ruleset")


def intent() -> Delta:
    def rule(action: str, index: int, **conditions: object) -> RuleRow:
        origin = Origin("GlobalNetworkPolicy", "default", "", "web", "ingress", index)
        return RuleRow(action, origin, **conditions)  # type: ignore[arg-type]

    members: list[Cidr | PortMember] = [
        parse_cidr(text) for text in ("10.1.0.0/16", "10.1.2.0/24", "fd01::/32")
    ]
    return Delta(
        set_infos={"s:web": SetInfo("net", "app == 'web'"), "n:http": SetInfo("port", "all()", "http", 6)},
        set_members={SetMember("s:web", member): True for member in members}
        | {SetMember("n:http", PortMember(parse_address("10.2.0.1"), 6, 80)): True},
        policies={
            WEB: PolicyRow(
                (
                    rule(
                        "Allow",
                        0,
                        protocol=6,
                        source=Side(sets=("s:web",)),
                        destination=Side(ports=((80, 80),)),
                    ),
                    rule("Allow", 1, protocol=6, destination=Side(port_sets=("n:http",))),
                ),
                (),
            )
        },
        endpoints={
            WORKLOAD: EndpointRow("cali1", (), (TierRow("default", "Deny", (WEB,)),), (), ("kns.default",)),
            EndpointId("HostEndpoint", "", "h"): EndpointRow("*", (), (), (), ("kns.default",)),
        },
        pools={parse_cidr("10.65.0.0/16"): PoolRow(nat_outgoing=True)},
    )


@pytest.fixture
def host() -> Iterator[Host]:
    with namespaces("t-nft-host") as (space,):
        yield Host(space)


def test_a_fresh_start_lacks_all_tables_and_then_nothing(host: Host) -> None:
    """The first sync makes the tables and says that they were missing; a second one, and a check, find nothing."""
    assert host.sync() == [Drift(family, "table calico", "missing") for family in (4, 6, "arp")]
    text = host.ruleset()
    assert host.check() == []
    assert host.sync() == []
    assert host.ruleset() == text


def test_a_restart_takes_over_what_is_there(host: Host) -> None:
    """A new back end that syncs to the same ruleset writes nothing, and can apply changes from there."""
    host.sync()
    handles = host.nft("-a", "-s", "list", "ruleset")
    host.backend = Nftables()
    assert host.sync() == []
    assert host.nft("-a", "-s", "list", "ruleset") == handles

    host.apply(host.update(Delta(set_members={SetMember("s:web", parse_cidr("10.1.0.0/16")): None})))
    assert host.check() == []


def test_changes_and_their_reverse_leave_the_state_before(host: Host) -> None:
    """Applied and taken back, a change of every table leaves the kernel as it was."""
    host.sync()
    before = host.ruleset()
    other = EndpointId("WorkloadEndpoint", "default", "two")
    row = EndpointRow("cali2", (), (), (TierRow("default", "Pass", (WEB,)),), ())
    host.apply(
        host.update(
            Delta(
                set_members={
                    SetMember("s:web", parse_cidr(text)): True for text in ("10.0.0.0/8", "10.3.0.0/16")
                },
                policies={WEB: None},
                endpoints={other: row, WORKLOAD: None},
                pools={parse_cidr("10.65.0.0/16"): None},
            )
        )
    )
    assert host.check() == []
    assert host.ruleset() != before

    back = intent()
    gone = {SetMember("s:web", parse_cidr(text)): None for text in ("10.0.0.0/8", "10.3.0.0/16")}
    host.apply(
        host.update(
            Delta(
                set_members=gone,
                policies=back.policies,
                endpoints={**back.endpoints, other: None},
                pools=back.pools,
            )
        )
    )
    assert host.check() == []
    assert sorted(host.ruleset().splitlines()) == sorted(before.splitlines())


EDITS: dict[str, tuple[str, str]] = {
    "the table deleted": ("delete table ip calico", "table calico"),
    "a rule inserted": ("insert rule ip calico filter-FORWARD accept", "chain filter-FORWARD"),
    "a rule added at the end": ("add rule ip calico cali-wl-to-host accept", "chain cali-wl-to-host"),
    "a chain emptied": ("flush chain ip calico cali-rpf", "chain cali-rpf"),
    "a chain added": ("add chain ip calico mine", "chain mine"),
    "a base chain added": (
        "add chain ip calico mine { type filter hook forward priority -10; policy drop; }",
        "chain mine",
    ),
    "an address removed": ("delete element ip calico {net} { 10.1.0.0/16 }", "set {net}"),
    "an address added": ("add element ip calico {net} { 10.77.0.0/16 }", "set {net}"),
    "a range added": ("add element ip calico {net} { 10.77.0.1-10.77.0.9 }", "set {net}"),
    "a port member removed": ("delete element ip calico {port} { 10.2.0.1 . 6 . 80 }", "set {port}"),
    "a port member added": ("add element ip calico {port} { 10.2.0.1 . 17 . 53 }", "set {port}"),
    "an interface removed": ('delete element ip calico cali-from-wl { "cali1" }', "map cali-from-wl"),
    "an interface opened": ('add element ip calico cali-from-wl { "cali9" : accept }', "map cali-from-wl"),
    "a set added": ("add set ip calico mine { type ipv4_addr; }", "set mine"),
    "a map added": ("add map ip calico mine { type ifname : verdict; }", "map mine"),
    "a counter added": ("add counter ip calico mine", "counter mine"),
    "a policy opened": (
        "add chain ip calico filter-INPUT { policy drop; }",
        "chain filter-INPUT",
    ),
    "put to sleep": ("add table ip calico { flags dormant; }", "table calico"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_others_change_is_found_and_repaired(host: Host, edit: str) -> None:
    """Each kind of edit is named by check, which changes nothing, then named and undone by sync."""
    host.sync()
    sound = sorted(host.ruleset().splitlines())
    sets = host.desired[4].sets
    names = {kind: next(n for n in sets if n.endswith(kind_end)) for kind, kind_end in (("port", "-p"),)}
    names["net"] = next(name for name in sets if name.startswith("cali40s-web"))
    command, what = EDITS[edit]
    for kind, name in names.items():
        command, what = command.replace(f"{{{kind}}}", name), what.replace(f"{{{kind}}}", name)
    host.nft(command)
    edited = host.ruleset()

    found = host.check()
    assert [(drift.family, drift.what) for drift in found] == [(4, what)]
    assert host.ruleset() == edited
    assert host.sync() == found
    assert sorted(host.ruleset().splitlines()) == sound
    assert host.check() == []


def test_a_rule_edited_in_place_is_found(host: Host) -> None:
    """A rule that was replaced by one of the same comment, on the same handle, is found by its content."""
    host.sync()
    chain = "cali-pi-gnp/web"
    listed = host.nft("-a", "list", "chain", "ip", "calico", chain)
    line = next(line for line in listed.splitlines() if "rule 0" in line)
    handle = line.rsplit(" ", 1)[1]
    edited = line.split("# handle")[0].replace("dport 80", "dport 22").replace("packets 0 bytes 0", "")
    host.nft(f"replace rule ip calico {chain} handle {handle} {edited}")

    drift = host.sync()

    assert [(d.family, d.what) for d in drift] == [(4, f"chain {chain}")]
    assert "changed: rule 0" in drift[0].found
    assert host.check() == []


def test_what_is_foreign_stays_as_it_is(host: Host) -> None:
    """Tables of others, even of our name in another family, survive everything we do to the byte."""
    host.space.run("nft", "-f", "-", stdin=FOREIGN)
    before = host.nft("-a", "list", "ruleset")
    host.sync()
    host.apply(host.update(Delta(endpoints={WORKLOAD: None})))
    host.inside(host.backend.remove)
    host.inside(host.backend.remove)
    assert host.nft("-a", "list", "ruleset") == before


def test_removal_leaves_nothing(host: Host) -> None:
    """After remove the packet filter is as if we had never been there."""
    host.sync()
    host.inside(host.backend.remove)
    assert host.ruleset() == ""


def test_a_refused_change_is_not_half_done(host: Host) -> None:
    """When the kernel refuses a transaction all of it is undone, and a sync brings the desired state."""
    host.sync()
    before = host.ruleset()
    wrong = ast.Change(
        4,
        chains={
            "cali-rpf": ast.Chain(()),
            "cali-new": ast.Chain((ast.Rule((), (ast.Jump("cali-nowhere"),)),)),
        },
    )
    with pytest.raises(Rejected, match="No such file"):
        host.apply([wrong])
    assert host.ruleset() == before
    assert host.sync() == []


def test_a_large_transaction_goes_in_parts() -> None:
    """Where the kernel's buffer is too small, new sets are filled first, and the rest stays one transaction."""

    class Small:
        """A kernel that takes no more than so many bytes."""

        def __init__(self) -> None:
            self.real = Library()

        def run(self, text: str) -> None:
            if len(text) > 120_000:
                raise TooBig("Message too long")
            self.real.run(text)

        def list_table(self, family: str, table: str) -> dict[str, object] | None:
            return self.real.list_table(family, table)

    def work() -> list[Drift]:
        backend = Nftables(Small())
        renderer = Renderer(Settings())
        backend.apply(renderer.update(intent()))
        many = {SetMember("s:big", Cidr(4, (11 << 24) + n, 32)): True for n in range(20_000)}
        rows = intent().policies[WEB]
        assert rows is not None
        changed = PolicyRow(
            (*rows.ingress, RuleRow("Allow", rows.ingress[0].origin, source=Side(sets=("s:big",)))), ()
        )
        backend.apply(renderer.update(Delta(set_members=many, policies={WEB: changed})))
        return backend.check(renderer.tables)

    with namespaces("t-nft-small") as (space,):
        assert space.call(work) == []


@pytest.mark.parametrize("run", [Library, Program])
def test_overlapping_prefixes_follow_their_cover(host: Host, run: Callable[[], Library | Program]) -> None:
    """Prefixes that contain each other come and go in any order; the kernel always matches all of them."""
    host.backend = Nftables(None)
    host.inside(lambda: setattr(host, "backend", Nftables(run())))
    host.sync()
    nets = [
        "10.0.0.0/8",
        "10.0.0.0/16",
        "10.0.0.0/24",
        "10.0.0.0/32",
        "0.0.0.0/0",
        "10.255.255.255/32",
        "10.1.0.0/16",
    ]
    for present in (True, None):
        for net in [*nets, *reversed(nets)]:
            for state in (present, True if present is None else None, present):
                host.apply(host.update(Delta(set_members={SetMember("s:web", parse_cidr(net)): state})))
                assert host.check() == []


def test_another_wording_of_nft_is_learned_not_fought(host: Host) -> None:
    """A release of nft that prints a rule otherwise than expected costs one repair, not one for ever."""

    class Newer:
        """Prints the drop verdict in its own way."""

        def __init__(self) -> None:
            self.real = Library()

        def run(self, text: str) -> None:
            self.real.run(text)

        def list_table(self, family: str, table: str) -> dict[str, object] | None:
            listed = self.real.list_table(family, table)
            for item in listed["nftables"] if listed else []:
                for expression in item.get("rule", {}).get("expr", []):
                    if "fib" in str(expression):
                        expression["newer"] = True
            return listed

    host.inside(lambda: setattr(host, "backend", Nftables(Newer())))
    host.sync()
    assert host.check() == []
    host.nft("insert rule ip calico cali-rpf accept")
    assert [drift.what for drift in host.sync()] == ["chain cali-rpf"]
    assert host.check() == []


def test_the_desired_state_is_only_read(host: Host) -> None:
    """The back end keeps its own notes and never changes the caller's tables."""
    desired = copy.deepcopy(dict(host.desired))
    host.sync()
    assert host.desired == desired
