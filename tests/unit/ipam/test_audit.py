"""The judgement of all of IPAM: each way in which its records and the world can disagree."""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.datastore.memory import MemoryStore
from calico.ipam import audit as audits
from calico.ipam.audit import Audit, audit
from calico.ipam.picture import picture, read
from calico.ipam.prefixes import Prefixes, disjoint
from calico.model.address import Cidr, parse_address, parse_cidr
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from calico.model.kubernetes_kinds import Pod, Service
from calico.model.node import NodeBGP, NodeWireguard
from calico.model.resource import Metadata
from support.ipam_pictures import Content, attribute, block, sound

OWNER = attribute("h.web", pod="web", namespace="shop", node="a")


def found(content: Content) -> dict[str, list[str]]:
    """What is wrong, by class; classes without a problem are left out."""
    judged = audit(content.picture())
    assert judged.count == sum(map(len, judged.problems.values()))
    return {name: [*map(str, each)] for name, each in judged.problems.items() if each}


def test_a_sound_cluster_has_no_problem() -> None:
    """Nothing is said of addresses that are used by whom they were given to."""
    assert found(sound()) == {}


def test_an_address_that_nobody_uses_is_leaked() -> None:
    """The sentence has what was noted when it was given, as Calico's check prints it."""
    gone = attribute("h.gone", pod="old", namespace="shop", node="b")
    assert found(sound().block(block("10.65.0.4/30", given={1: gone}))) == {
        audits.LEAKED: ["10.65.0.5 leaked; attrs Main:h.gone Extra:namespace=shop,node=b,pod=old"]
    }


def test_tunnel_addresses_of_nodes_are_in_use() -> None:
    """Of all five kinds, IPv6 too."""
    content = sound().node(
        "c",
        bgp=NodeBGP(ipv4_ipip_tunnel_addr="10.65.0.4"),
        ipv4_vxlan_tunnel_addr="10.65.0.5",
        ipv6_vxlan_tunnel_addr="FD00::1",
        wireguard=NodeWireguard(interface_ipv4_address="10.65.0.6", interface_ipv6_address="fd00::2"),
    )
    tunnels = {number: attribute(f"t{number}", node="c", type="tunnel") for number in range(3)}
    content.pool("six", "fd00::/64").block(block("10.65.0.4/30", "host:c", tunnels))
    six = {number: attribute(f"s{number}", node="c", type="tunnel") for number in (1, 2)}
    content.block(block("fd00::/126", "host:c", six))
    assert found(content) == {}


def test_addresses_of_load_balancers_are_in_use() -> None:
    """Those that a service's status has; an address of another's balancer, in no pool, is none of ours."""
    service = Service(
        metadata=Metadata(name="lb", namespace="shop"),
        spec={"type": "LoadBalancer"},
        status={"loadBalancer": {"ingress": [{"ip": "10.65.0.4"}, {"ip": "192.0.2.1"}]}},
    )
    balanced = block("10.65.0.4/30", "virtual:load-balancer", {0: attribute("lb-1", service="shop/lb")})
    assert found(sound().block(balanced).add(service)) == {}


def test_pods_of_kubernetes_use_their_addresses() -> None:
    """A pod and the endpoint of that pod are one user, not two; a finished pod uses none."""

    def pod(name: str, address: str, phase: str = "Running") -> Pod:
        status = {"podIP": address, "podIPs": [{"ip": address}], "phase": phase}
        return Pod(metadata=Metadata(name=name, namespace="shop"), spec={"nodeName": "a"}, status=status)

    two = {
        0: attribute("h.p", pod="p", namespace="shop"),
        1: attribute("h.done", pod="done", namespace="shop"),
    }
    content = sound().block(block("10.65.0.4/30", given=two))
    content.add(pod("web", "10.65.0.0"), pod("p", "10.65.0.4"), pod("done", "10.65.0.5", "Succeeded"))
    assert list(found(content)) == [audits.LEAKED]
    assert audit(content.picture()).problems[audits.LEAKED][0].subject == "10.65.0.5"


@pytest.mark.parametrize(
    "kept",
    [attribute("windows-reserved-ipam-handle"), attribute("h.vm", **{"vmi-name": "vm", "namespace": "shop"})],
)
def test_addresses_that_are_kept_without_use_are_not_leaked(kept) -> None:
    """Windows keeps some of each block, a stopped virtual machine its own."""
    content = sound().block(block("10.65.0.4/30", given={0: kept}), handles=kept.handle_id == "h.vm")
    assert found(content) == {}


def test_an_address_that_cools_down_is_neither_leaked_nor_anybodys() -> None:
    """It is counted; if somebody uses it all the same, nobody gave it to him."""
    cools = attribute(None, released_at="2026-01-01T00:00:00Z")
    content = sound().block(block("10.65.0.4/30", given={0: cools}))
    assert found(content) == {}
    assert audit(content.picture()).cooling == 1
    assert list(found(content.workload("late", "a", "10.65.0.4"))) == [audits.UNALLOCATED]


def test_addresses_in_use_that_nobody_gave() -> None:
    """In no active pool, or in one; a disabled pool is not active."""
    content = sound().pool("old", "10.66.0.0/16", disabled=True)
    content.workload("x", "a", "192.0.2.1").workload("y", "b", "10.65.9.9").workload("z", "b", "10.66.0.1")
    assert found(content) == {
        audits.OUTSIDE: [
            "10.66.0.1 in use by Workload(shop/z) is not in any active IP pool",
            "192.0.2.1 in use by Workload(shop/x) is not in any active IP pool",
        ],
        audits.UNALLOCATED: [
            "10.65.9.9 in use by Workload(shop/y) and in active IP pool all but has no IPAM allocation"
        ],
    }


def test_two_who_use_one_address() -> None:
    """Unless it is one virtual machine on its way to another host."""
    content = sound().workload("other", "b", "10.65.0.0")
    assert found(content) == {
        audits.SHARED: ["10.65.0.0 is used by Workload(shop/web) and Workload(shop/other)"]
    }
    moving = msgspec.structs.replace(OWNER, alternate_owner_attrs={"pod": "other"})
    assert found(content.block(block("10.65.0.0/30", given={0: moving}))) == {}


def test_an_address_that_two_blocks_gave() -> None:
    """Where blocks of different sizes overlap, both is said: the overlap, and each address given twice."""
    content = sound().block(block("10.65.0.0/29", "host:b", {0: attribute("h.b", node="b")}))
    assert found(content) == {
        audits.SHARED: ["10.65.0.0 is given away twice: by block 10.65.0.0/30 and by block 10.65.0.0/29"],
        audits.BROKEN: ["10.65.0.0/30 lies within another block, 10.65.0.0/29"],
    }


def test_handles_without_addresses_and_addresses_without_handles() -> None:
    """A handle that counts what no block has is one without addresses."""
    content = sound().handle("h.left", {}).handle("h.counts", {"10.65.0.0/30": 2})
    content.block(block("10.65.0.4/30", given={0: attribute("h.none")}), handles=False)
    content.workload("x", "a", "10.65.0.4")
    assert found(content) == {
        audits.EMPTY_HANDLES: [
            "h.counts doesn't have any active IPs, though it counts 2",
            "h.left doesn't have any active IPs",
        ],
        audits.MISSING_HANDLES: ["h.none is in use in a block but doesn't exist; the block is 10.65.0.4/30"],
    }
    assert audit(content.picture()).leaked_handles == ["h.counts", "h.left"]


def test_counts_that_differ() -> None:
    """Too many, too few, and in a block that has none; however the block is written."""
    content = sound().handle("h.web", {"10.65.0.0/30": 3, "fd00:0::/126": 1})
    content.block(block("fd00::/126", given={0: OWNER}), handles=False).workload(
        "web", "a", "10.65.0.0", "fd00::"
    )
    assert found(content) == {audits.COUNTS: ["h.web counts 3 in block 10.65.0.0/30, which gave it 1"]}
    assert found(sound().handle("h.web", {"10.65.0.0/30": 1, "10.65.0.4/30": 1})) == {
        audits.COUNTS: ["h.web counts 1 in block 10.65.0.4/30, which gave it 0"]
    }


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"allocations": [0, None, None]}, "10.65.0.0/30 has 3 entries for 4 addresses"),
        ({"unallocated": [1, 2, 3, 3]}, "10.65.0.0/30 would give the same address twice: 10.65.0.3"),
        (
            {"unallocated": [0, 1, 2, 3]},
            "10.65.0.0/30 calls addresses free that it has given away: 10.65.0.0",
        ),
        ({"unallocated": [1, 2, 3, 9]}, "10.65.0.0/30 calls addresses free that are not its own: ordinals 9"),
        (
            {"unallocated": [1]},
            "10.65.0.0/30 will never give these addresses, which are neither free nor given away:"
            " 10.65.0.2, 10.65.0.3",
        ),
        (
            {"allocations": [0, 7, None, None], "unallocated": [2, 3]},
            "10.65.0.0/30 gives address 10.65.0.1 to attribute 7, of which it has 1",
        ),
        ({"cidr": "10.65.0.4/30"}, "10.65.0.0/30 says that it is the block '10.65.0.4/30'"),
        ({"cidr": "none"}, "10.65.0.0/30 says that it is the block 'none'"),
    ],
)
def test_blocks_that_contradict_themselves(fields, sentence: str) -> None:
    """Each way has its sentence; the rest of the block is judged all the same."""
    content = sound()
    contradicting = msgspec.structs.replace(block("10.65.0.0/30", given={0: OWNER}), **fields)
    content.add((Key("IPAMBlock", "10.65.0.0/30"), contradicting))
    assert sentence in found(content)[audits.BROKEN]


def test_claims_that_do_not_hold() -> None:
    """Claims under way are left in peace, but not those of nodes that are gone."""
    content = sound()

    def claim(cidr: str, owner: str, state: str = "confirmed") -> None:
        content.add((Key("BlockAffinity", cidr, owner), BlockAffinity(state=state)))

    claim("10.65.0.0/30", "host:b")
    claim("10.65.0.4/30", "host:a")
    claim("10.65.0.8/30", "host:a", "pending")
    claim("10.65.0.12/30", "host:gone", "pending")
    content.block(block("10.65.0.16/30", "host:b"), claim=False)
    content.add((Key("BlockAffinity", "10.65.0.20/30", "host:a"), b""))
    assert found(content) == {
        audits.CLAIMS: [
            "10.65.0.0/30 is claimed by host:b, but is host:a's",
            "10.65.0.4/30 is claimed by host:a, but there is no such block",
            "10.65.0.12/30 is claimed by gone, which is no node any more",
            "10.65.0.16/30 is host:b's, who has no claim to it",
            "10.65.0.20/30 is claimed by host:a, but there is no such block",
        ]
    }


def test_what_cannot_be_read_is_said_and_its_addresses_count_as_in_use() -> None:
    """An endpoint with one broken field still uses its addresses: nobody may free them."""
    content = sound()
    raw = b'{"spec":{"pod":7,"ipNetworks":["10.65.0.0/32"]}}'
    content.add((Key("WorkloadEndpoint", "web", "shop"), raw), (Key("IPAMBlock", "10.65.0.4/30"), b"{"))
    problems = found(content)
    assert list(problems) == [audits.UNREADABLE]
    assert len(problems[audits.UNREADABLE]) == 2


def test_nulls_of_other_writers_are_no_problem() -> None:
    """A null where a value may be left out is as good as nothing."""
    content = sound()
    content.add((Key("IPAMHandle", "h.web"), b'{"block":{"10.65.0.0/30":1},"deleted":null}'))
    content.add((Key("WorkloadEndpoint", "bare", "shop"), b'{"spec":{"ipNetworks":null,"pod":null}}'))
    assert found(content) == {}


def test_borrowed_addresses_and_nodes_are_told() -> None:
    """Whose node has how many, the most first; borrowed is what lies in another host's block."""
    content = sound()
    for number in range(2):
        content.workload(f"b{number}", "b", f"10.65.0.{4 + number}")
    content.block(block("10.65.0.4/30", given={n: attribute(f"h{n}", node="b") for n in range(2)}))
    judged = audit(content.picture())
    assert judged.by_node() == [("b", 2), ("a", 1)]
    assert Counter(each.borrowed for each in judged.allocations) == {True: 2, False: 1}


def test_a_picture_is_of_one_moment() -> None:
    """What is written while it is read is not in it."""

    class Meddled(MemoryStore):
        """Frees an address as soon as the first listing was made."""

        meddled = False

        async def list(self, prefix: str, *, revision: int | None = None):
            listing = await super().list(prefix, revision=revision)
            if not self.meddled:
                self.meddled = True
                await self.delete(Key("WorkloadEndpoint", "web", "shop").path, revision=None)
            return listing

    async def twice() -> list[int]:
        store = Meddled()
        for entry in sound().entries.values():
            await store.create(entry.path, entry.value)
        return [audit(await read(store)).count for _ in range(2)]

    assert asyncio.run(twice()) == [0, 1]


def test_what_is_not_ipams_is_passed_over() -> None:
    """A picture of nothing is empty, and judged without a word."""
    judged: Audit = audit(picture(0, []))
    assert (judged.count, judged.allocations) == (0, [])


# --- against the obvious -----------------------------------------------------------------------------

cidrs = st.builds(
    lambda value, length: parse_cidr(f"10.{value}.0.0/{length}"), st.integers(0, 7), st.integers(12, 20)
)


@given(st.lists(cidrs), st.integers(0, 7), st.integers(0, 255))
def test_lookups_agree_with_trying_each_prefix(prefixes: list[Cidr], second: int, third: int) -> None:
    """The longest prefix is found, or none."""
    address = parse_address(f"10.{second}.{third}.1")
    around = [each for each in prefixes if each.contains(address)]
    expected = max(around, key=lambda each: each.length, default=None)
    answer = Prefixes((each, str(each)) for each in prefixes).find(address)
    assert answer == (None if expected is None else (expected, str(expected)))
    assert [each for each, _ in Prefixes((each, None) for each in prefixes).around(address)] == sorted(
        set(around), key=lambda each: -each.length
    )


@given(st.lists(cidrs))
def test_disjoint_prefixes_hold_the_same_addresses_once(prefixes: list[Cidr]) -> None:
    """Nothing is lost, and no two overlap."""
    kept = disjoint(prefixes)
    assert all(any(each.contains(prefix) for each in kept) for prefix in prefixes)
    assert set(kept) <= set(prefixes)
    assert not any(one.overlaps(other) for i, one in enumerate(kept) for other in kept[i + 1 :])
