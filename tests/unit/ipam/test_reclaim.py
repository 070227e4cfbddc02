"""What was left behind and what was not: each kind by itself, and by chance with an oracle of its own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.ipam import block as blocks
from calico.ipam.block import Release
from calico.ipam.evidence import GRACE, Evidence, evidence, seconds
from calico.ipam.reclaim import (
    GONE_GRACE,
    Deed,
    Drop,
    Free,
    GiveUp,
    Memory,
    Recount,
    Settle,
    Thaw,
    observe,
    suspicions,
)
from calico.model.address import Cidr, parse_cidr
from calico.model.cluster import (
    Controllers,
    KubeControllersConfiguration,
    KubeControllersConfigurationSpec,
    NodeController,
)
from calico.model.ipam import BlockAffinity
from calico.model.keys import Key
from calico.model.kubernetes_kinds import Pod, Service
from calico.model.node import NodeBGP
from calico.model.resource import Metadata
from support.ipam_pictures import SEQUENCE, Content, attribute, block, sound

TODAY = datetime(2026, 1, 1, 12, tzinfo=UTC)
OLD = attribute("net.old", pod="old", namespace="shop", node="b")
SMALL = "10.65.0.4/30"


def seen(content: Content) -> Evidence:
    return evidence(len(content.entries), content.entries.values())


def called_for(content: Content) -> set[Deed]:
    """What one picture calls for, by itself."""
    found = seen(content)
    assert not found.doubt
    return {*suspicions(found, TODAY)}


def freed(content: Content) -> set[str]:
    """The handles that look left behind."""
    return {deed.handle for deed in called_for(content) if isinstance(deed, Free)}


def grace(text: str | None) -> KubeControllersConfiguration:
    node = NodeController(leak_grace_period=text)
    return KubeControllersConfiguration(
        metadata=Metadata(name="default"),
        spec=KubeControllersConfigurationSpec(controllers=Controllers(node=node)),
    )


def leaking(attribute=OLD, affinity: str = "host:b") -> Content:
    """A sound cluster, and a block of which somebody who is gone has the first address."""
    return sound().block(block(SMALL, affinity, {0: attribute}))


# --- addresses ---------------------------------------------------------------------------------------


def test_nothing_of_a_sound_cluster_is_left_behind() -> None:
    """Not even the last block of a host, empty as it may be."""
    assert called_for(sound().block(block(SMALL, "host:b"))) == set()


def test_an_address_whose_workload_is_gone() -> None:
    """The deed names handle and sequence number, so that what is given anew meanwhile is another deed."""
    content = leaking()
    revision = content.entries[Key("IPAMHandle", "net.old").path].revision
    release = Release(parse_cidr("10.65.0.4"), "net.old", SEQUENCE)
    assert called_for(content) == {Free("net.old", revision, (release,), ("shop/old",))}


@pytest.mark.parametrize(
    "sign",
    [
        lambda content: content.workload("old", "b"),
        lambda content: content.workload("new", "a", "10.65.0.4"),
        lambda content: content.workload("old", "b", "10.65.9.9", container_id="old"),
        lambda content: content.workload("old", "b", "10.65.9.9"),
        lambda content: content.add(Pod(metadata=Metadata(name="old", namespace="shop"))),
        lambda content: content.add(
            Pod(
                metadata=Metadata(name="x", namespace="shop"),
                status={"phase": "Running", "podIPs": [{"ip": "10.65.0.4"}]},
            )
        ),
        lambda content: content.add(
            Service(metadata=Metadata(name="x", namespace="shop"), spec={"externalIPs": ["10.65.0.4"]})
        ),
        lambda content: content.node("c", bgp=NodeBGP(ipv4_address="10.65.0.4/24")),
    ],
    ids=[
        "no-address-yet",
        "another-has-it",
        "same-container",
        "container-unknown",
        "a-pod",
        "a-pods-status",
        "a-service",
        "a-node",
    ],
)
def test_any_sign_of_life_keeps_an_address(sign) -> None:
    """Wherever the address stands, or its owner without it."""
    assert freed(sign(leaking())) == set()


@pytest.mark.parametrize(
    "sign",
    [
        lambda content: content.workload("old", "b", "10.65.9.9", container_id="new"),
        lambda content: content.add(
            Pod(
                metadata=Metadata(name="old", namespace="shop"),
                status={"phase": "Running", "podIP": "10.65.9.9"},
            )
        ),
        lambda content: content.add(
            Pod(
                metadata=Metadata(name="old", namespace="shop"),
                status={"phase": "Succeeded", "podIP": "10.65.0.4"},
            )
        ),
    ],
    ids=["container-anew", "pod-anew", "finished"],
)
def test_a_namesake_with_other_addresses_is_no_sign_of_life(sign) -> None:
    """A workload that was made anew under its old name has a new address; the old one is left behind."""
    assert freed(sign(leaking())) == {"net.old"}


def test_addresses_are_compared_as_such_and_not_as_text() -> None:
    """IPv6 in other letters, or with more zeros, is the same address."""
    left = attribute("net.six", pod="six", namespace="shop", node="a")
    content = sound().block(block("fd00::/126", given={1: left}))
    assert freed(content) == {"net.six"}
    assert freed(content.workload("other", "b", "FD00:0::0001")) == set()


@pytest.mark.parametrize(
    "unknown",
    [
        attribute("windows-reserved-ipam-handle"),
        attribute("net.vm", **{"vmi-name": "vm", "pod": "p", "namespace": "shop", "node": "gone"}),
        attribute("lb-1", service="shop/lb"),
        attribute("mine"),
        attribute("net.x", node="gone", pod="x"),
        attribute("net.x", node="gone", type="somethingNew"),
        attribute("tunnel", type="ipipTunnelAddress"),
        attribute(None, pod="x", namespace="shop", node="gone"),
    ],
)
def test_what_nobody_can_judge_is_never_taken(unknown) -> None:
    """Nor is the block around it, though its host be gone."""
    deeds = called_for(leaking(unknown, "host:gone"))
    assert [each for each in deeds if isinstance(each, Free | GiveUp | Drop)] == []


def test_tunnel_addresses_live_as_long_as_their_node() -> None:
    """Also while the node does not name them: it may be about to."""
    assert freed(leaking(attribute("ipip-tunnel-addr-b", node="b", type="ipipTunnelAddress"))) == set()
    gone = attribute("ipip-tunnel-addr-c", node="c", type="ipipTunnelAddress")
    assert freed(leaking(gone)) == {"ipip-tunnel-addr-c"}


def test_the_addresses_of_a_handle_go_together_or_not_at_all() -> None:
    """Over all blocks."""
    content = leaking().block(block("fd00::/126", given={0: OLD}))
    content.handle("net.old", {SMALL: 1, "fd00::/126": 1})
    (deed,) = called_for(content)
    assert isinstance(deed, Free)
    assert [str(each.address) for each in deed.releases] == ["10.65.0.4/32", "fd00::/128"]
    assert called_for(content.workload("other", "a", "fd00::")) == set()


def test_what_cools_down_is_nobodys_and_comes_back_when_its_time_is_over() -> None:
    """Where nobody else writes the block it would stay cold for ever."""
    cools = attribute(None, released_at="2026-01-01T11:59:00Z")
    content = leaking(cools)
    thaw = Thaw(parse_cidr(SMALL), SEQUENCE)
    assert called_for(content.configuration(ip_cooldown_seconds=60)) == set()
    assert called_for(content.configuration(ip_cooldown_seconds=59)) == {thaw}


# --- blocks, claims, handles -------------------------------------------------------------------------


def test_a_host_keeps_one_block_of_each_family() -> None:
    """All empty ones beyond that can be spared, and those of nobody."""
    content = sound().block(block(SMALL, "host:b")).block(block("10.65.0.8/30", "host:b"))
    content.block(block("fd00::/126", "host:b")).block(block("10.65.0.12/30", "host:a"))
    content.block(block("10.65.0.16/30", None)).block(block("10.65.0.20/30", "virtual:load-balancer"))
    content.block(block("10.65.0.24/30", "virtual:load-balancer"))
    assert called_for(content) == {
        Drop(parse_cidr("10.65.0.8/30"), "host:b", SEQUENCE),
        Drop(parse_cidr("10.65.0.12/30"), "host:a", SEQUENCE),
        Drop(parse_cidr("10.65.0.16/30"), "", SEQUENCE),
    }


def test_a_host_that_is_gone_has_nothing() -> None:
    """Its claims go, and its blocks, also one without a claim; an endpoint there says that it is not gone."""
    content = sound().block(block(SMALL, "host:c")).block(block("10.65.0.8/30", "host:c"), claim=False)
    content.add((Key("BlockAffinity", "10.65.0.12/30", "host:c"), BlockAffinity(state="pending")))
    keys = [Key("BlockAffinity", each, "host:c") for each in (SMALL, "10.65.0.8/30", "10.65.0.12/30")]
    assert called_for(content) == set(map(GiveUp, keys))
    assert not [each for each in called_for(content.workload("x", "c")) if isinstance(each, GiveUp)]


def test_where_no_node_is_noted_none_is_gone() -> None:
    """A cluster whose hosts are noted elsewhere."""
    content = Content().block(block(SMALL, "host:c", {0: attribute("t", node="c", type="ipipTunnelAddress")}))
    assert called_for(content) == set()


@pytest.mark.parametrize("state", ["pending", "pendingDeletion"])
def test_claims_that_were_cut_off(state) -> None:
    """By the revision at which they stand still."""
    key = Key("BlockAffinity", SMALL, "host:b")
    content = sound().add((key, BlockAffinity(state=state)))
    assert called_for(content) == {Settle(key, content.entries[key.path].revision)}


def test_handles_that_count_otherwise_than_the_blocks() -> None:
    """Too much, too little, nothing, or without a record at all."""
    content = (
        sound().handle("h.web", {"10.65.0.0/30": 2, SMALL: 1}).handle("left", {SMALL: 1}).handle("none", {})
    )
    content.block(
        block("10.65.0.8/30", given={0: attribute("new", pod="web", namespace="shop", node="a")}),
        handles=False,
    )
    content.workload("web", "a", "10.65.0.0", "10.65.0.8")
    whole, small, other = map(parse_cidr, ("10.65.0.0/30", SMALL, "10.65.0.8/30"))
    revisions = {
        name: content.entries[Key("IPAMHandle", name).path].revision for name in ("h.web", "left", "none")
    }
    assert called_for(content) == {
        Recount("h.web", revisions["h.web"], ((whole, 1),), (whole, small)),
        Recount("left", revisions["left"], (), (small,)),
        Recount("none", revisions["none"], (), ()),
        Recount("new", None, ((other, 1),), ()),
    }


# --- doubt and time ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["WorkloadEndpoint", "Pod", "Service", "Node", "KubeControllersConfiguration"]
)
def test_what_cannot_be_read_may_be_an_owner(kind) -> None:
    """Then nothing is left behind, and what was suspected is forgotten."""
    content = leaking()
    _, memory = observe(seen(content), {}, 0, TODAY)
    name = "default" if kind == "KubeControllersConfiguration" else "x"
    broken = content.add((Key(kind, name, "shop"), b'{"spec": 7}'))
    assert f"{kind.lower()}s/" in seen(broken).doubt or name in seen(broken).doubt
    assert observe(seen(broken), memory, GRACE, TODAY) == ((), {})


def test_a_locked_store_and_a_contradictory_block_are_doubt() -> None:
    """While a store is locked somebody may be moving it; a block that contradicts itself shows nothing for certain."""
    assert seen(leaking().cluster()).doubt == "the store is locked"
    assert not seen(leaking().cluster(locked=False)).doubt
    assert SMALL in seen(sound().block(block(SMALL, unallocated=[0, 0]))).doubt


def test_a_pool_that_cannot_be_read_is_beside_the_point() -> None:
    """No pool has ever used an address."""
    assert not seen(leaking().add((Key("IPPool", "x"), b"{"))).doubt


def test_two_pictures_and_the_time_between_them() -> None:
    """One picture is never enough, however long ago the owner went; two in a row are, when the time is over."""
    content = leaking()
    due, memory = observe(seen(content), {}, 100.0, TODAY)
    assert due == ()
    assert observe(seen(content), memory, 99.9 + GRACE, TODAY)[0] == ()
    due, _ = observe(seen(content), memory, 100.0 + GRACE, TODAY)
    assert [each.reason for each in due] == ["it was given to shop/old, which is gone"]


def test_life_in_between_begins_the_time_anew() -> None:
    """Whoever was seen alive is suspected from the start when he is gone again."""
    _, memory = observe(seen(leaking()), {}, 0, TODAY)
    _, memory = observe(seen(leaking().workload("old", "b")), memory, 800, TODAY)
    due, memory = observe(seen(leaking()), memory, 1000, TODAY)
    assert due == ()
    assert observe(seen(leaking()), memory, 1000 + GRACE - 1, TODAY)[0] == ()


def test_a_handle_that_moves_begins_anew() -> None:
    """A handle counts before its block gives: an assignment may be under way."""
    _, memory = observe(seen(leaking()), {}, 0, TODAY)
    moved = leaking().handle("net.old", {SMALL: 2})
    assert not [each for each in observe(seen(moved), memory, GRACE, TODAY)[0] if isinstance(each.deed, Free)]


def test_what_a_gone_host_had_waits_less() -> None:
    """At most a minute, and never longer than the rest."""
    content = leaking(attribute("net.x", pod="x", namespace="shop", node="c"), "host:c")
    _, memory = observe(seen(content), {}, 0, TODAY)
    assert observe(seen(content), memory, GONE_GRACE - 1, TODAY)[0] == ()
    due, _ = observe(seen(content), memory, GONE_GRACE, TODAY)
    assert [type(each.deed) for each in due] == [Free, GiveUp]


def test_the_shorter_time_begins_when_the_host_is_first_seen_gone() -> None:
    """A node that is missing for a moment does not make an address due that waited for its workload until then."""
    content = leaking(attribute("net.x", pod="x", namespace="shop", node="c"), "host:a")
    there = Content()
    there.entries |= content.entries
    _, memory = observe(seen(there.node("c")), {}, 0, TODAY)
    due, memory = observe(seen(content), memory, 100, TODAY)
    assert due == ()
    assert observe(seen(content), memory, 99 + GONE_GRACE, TODAY)[0] == ()
    (due,) = observe(seen(content), memory, 100 + GONE_GRACE, TODAY)[0]
    assert due.deed.hosts == ("c",)


def test_the_time_is_configured() -> None:
    """15 minutes if it is not; with 0 nothing is ever collected."""
    assert seen(leaking()).grace == seen(leaking().add(grace(None))).grace == 15 * 60
    assert seen(leaking().add(grace("1m30s"))).grace == 90
    assert called_for(leaking().add(grace("0"))) == called_for(leaking().add(grace("0s"))) == set()
    assert [seconds(text) for text in ("1h", "1.5h2ms", ".5s", "", "5", "x", None)] == [
        3600, 5400.002, 0.5, None, None, None, None,
    ]  # fmt: skip


# --- by chance ---------------------------------------------------------------------------------------

NAMES = ("p", "q", "r")
HOSTS = ("a", "b", "c")

moments = st.fixed_dictionaries(
    {
        "nodes": st.sets(st.sampled_from(HOSTS), min_size=1),
        "endpoints": st.dictionaries(
            st.sampled_from(NAMES), st.tuples(st.sampled_from(HOSTS), st.none() | st.integers(0, 7))
        ),
        "given": st.dictionaries(
            st.integers(0, 7), st.tuples(st.sampled_from(NAMES), st.sampled_from(HOSTS), st.integers(0, 1))
        ),
        "broken": st.integers(0, 9).map(lambda number: number == 0),
        "after": st.sampled_from([1.0, 30.0, 61.0, 500.0, 901.0]),
    }
)


def address(number: int) -> Cidr:
    return blocks.address_at(parse_cidr("10.65.0.0/29"), number)


def content_of(moment) -> Content:
    """The store at a moment: two blocks, and who has what of them."""
    content = Content().pool("all", "10.65.0.0/16")
    for host in sorted(moment["nodes"]):
        content.node(host)
    for name, (host, number) in moment["endpoints"].items():
        used = () if number is None else (address(number).address,)
        content.workload(name, host, *used, container_id=name)
    counts: dict[str, dict[str, int]] = {}
    for number, host in ((0, "a"), (4, "b")):
        cidr = f"10.65.0.{number}/30"
        held = {
            each - number: attribute(f"net.{name}", pod=name, namespace="shop", node=node)
            for each, (name, node, _) in moment["given"].items()
            if number <= each < number + 4
        }
        numbers = {
            str(each - number): again * len(HOSTS) + HOSTS.index(node)  # to another node it is given anew
            for each, (_, node, again) in moment["given"].items()
            if number <= each < number + 4
        }
        made = block(cidr, f"host:{host}", held)
        content.block(msgspec.structs.replace(made, sequence_number_for_allocation=numbers), handles=False)
        for each in held.values():
            handle = counts.setdefault(each.handle_id or "", {})
            handle[cidr] = handle.get(cidr, 0) + 1
    for handle, each in sorted(counts.items()):
        content.handle(handle, each)
    if moment["broken"]:
        content.add((Key("Pod", "z", "shop"), b"{"))
    return content


def lives(moment, name: str) -> bool:
    """By the letter: its endpoint exists and has the handle, or anybody uses any of its addresses."""
    held = {number for number, (owner, _, _) in moment["given"].items() if owner == name}
    used = {number for _, number in moment["endpoints"].values() if number is not None}
    return name in moment["endpoints"] or bool(held & used)


def frees(moments: Iterable) -> Iterable[tuple[dict, dict, list[Free]]]:
    """Each moment with the one before it, and what is released then."""
    memory: Memory = {}
    now, before = 0.0, None
    for moment in moments:
        now += moment["after"]
        due, memory = observe(seen(content_of(moment)), memory, now, TODAY)
        found = [each.deed for each in due if isinstance(each.deed, Free)]
        if before is None:
            assert not due
        else:
            yield before, moment, found
        before = moment


@given(st.lists(moments, min_size=2, max_size=5))
def test_no_address_goes_whose_owner_lives_in_either_picture(history) -> None:
    """Nor in a moment of doubt, nor some addresses of a handle without the others, nor one given anew."""
    for before, now, deeds in frees(history):
        assert not (deeds and (before["broken"] or now["broken"]))
        for deed in deeds:
            name = deed.handle.removeprefix("net.")
            assert not lives(before, name)
            assert not lives(now, name)
            held = {number for number, each in now["given"].items() if each[0] == name}
            assert {each.address for each in deed.releases} == {address(number) for number in held}
            assert all(before["given"][number] == now["given"][number] for number in held)


@given(moments)
def test_every_leak_goes_in_the_end(moment) -> None:
    """Of a world that stands still everything goes whose owner is gone, with the second picture after the time."""
    still = {**moment, "broken": False, "after": GRACE}
    ((_, _, deeds),) = frees([still, still])
    owners = {name for name, _, _ in still["given"].values()}
    assert {deed.handle for deed in deeds} == {f"net.{name}" for name in owners if not lives(still, name)}
