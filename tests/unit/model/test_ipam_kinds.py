"""IPAM's records as resources: names, keys, what people may say, and that nothing of a record is lost."""

from __future__ import annotations

from typing import Any

import pytest

from calico.model import ipam
from calico.model.address import cidr_word, parse_cidr, parse_cidr_word
from calico.model.codec import decode, decode_resource, encode, from_builtins
from calico.model.errors import InvalidResources, ModelError
from calico.model.ipam_kinds import VIEWS
from calico.model.keys import KINDS, Key, key_of, parse_path
from calico.model.resource import API_VERSION, Metadata
from calico.model.validation import defaulted

RECORDS = {
    Key("IPAMBlock", "10.0.0.0/30"): ipam.IPAMBlock(
        cidr="10.0.0.0/30",
        affinity="host:a",
        affinity_claim_time="2026-01-02T03:04:05Z",
        allocations=[0, None, 1, None],
        unallocated=[3, 1],
        attributes=[
            ipam.AllocationAttribute(handle_id="h", secondary={"node": "a"}),
            ipam.AllocationAttribute(released_at="2026-01-02T03:04:05Z", alternate_owner_attrs={"b": "c"}),
        ],
        sequence_number=7,
        sequence_number_for_allocation={"0": 6},
    ),
    Key("BlockAffinity", "10.0.0.0/26", "host:n-1"): ipam.BlockAffinity(state="pending"),
    Key("BlockAffinity", "fd00::/122", "virtual:load-balancer"): ipam.BlockAffinity(state="confirmed"),
    Key("IPAMHandle", "k8s-pod-network.0123"): ipam.IPAMHandle(block={"10.0.0.0/26": 2}),
    Key("IPAMConfiguration", "default"): ipam.IPAMConfig(
        strict_affinity=True,
        max_blocks_per_host=3,
        kubevirt_persistence="Disabled",
        ip_cooldown_seconds=60,
        auto_allocate_blocks=True,
    ),
}


@pytest.mark.parametrize("key", RECORDS, ids=str)
def test_records_and_views(key: Key) -> None:
    """A record, seen as a resource and stored again, is the same record at the same path."""
    value = encode(RECORDS[key])

    view = decode_resource(key, value, 7)

    assert key_of(view) == key
    assert encode(view) == value
    assert view.metadata.resource_version == "7"
    assert decode(key, value, 7) == RECORDS[key]


@pytest.mark.parametrize(
    ("key", "name", "path"),
    [
        (Key("IPAMBlock", "10.0.0.0/30"), "10-0-0-0-30", "assignment/ipv4/block/10.0.0.0-30"),
        (Key("BlockAffinity", "10.0.0.0/26", "host:n-1"), "n-1-10-0-0-0-26", "host/n-1/ipv4/block/10.0.0.0-26"),
        (Key("BlockAffinity", "fd00::/122", "virtual:load-balancer"), "load-balancer-fd00---122", "virtual/load-balancer/ipv6/block/fd00::-122"),
        (Key("IPAMHandle", "k8s-pod-network.0123"), "k8s-pod-network.0123", "handle/k8s-pod-network.0123"),
        (Key("IPAMConfiguration", "default"), "default", "config"),
    ],
)  # fmt: skip
def test_names_and_paths(key: Key, name: str, path: str) -> None:
    """Resources are named as in Calico; the records stay where IPAM has them."""
    assert decode_resource(key, encode(RECORDS[key]), 1).metadata.name == name
    assert key.path == f"/calico/ipam/v2/{path}"
    assert parse_path(key.path) == key
    if key.kind != "BlockAffinity":
        assert Key(key.kind, name).path == key.path


@pytest.mark.parametrize(
    "text", ["10.0.0.0/26", "0.0.0.0/0", "fd00::/122", "2001:db8::1:0/120", "1:2:3:4:5:6:7:8/128"]
)
def test_names_of_blocks(text: str) -> None:
    """A block's name says which block it is."""
    cidr = parse_cidr(text)

    assert parse_cidr_word(cidr_word(cidr)) == cidr
    assert Key("IPAMBlock", cidr_word(cidr)).path == Key("IPAMBlock", text).path


@pytest.mark.parametrize(
    "name", ["", "a", "10-0-0-0", "10-0-0-0-33", "10-0-0-1-26", "10.0.0.0-26", "10-0-0-0/26"]
)
def test_no_names_of_blocks(name: str) -> None:
    """What is no block's name says so; as a key it leads nowhere."""
    with pytest.raises(ModelError):
        parse_cidr_word(name)
    assert Key("IPAMBlock", name).path.startswith("/calico/ipam/v2/assignment/")


def test_what_writers_of_old_left_out() -> None:
    """An affinity without a value is confirmed; settings that are not there are off."""
    affinity = decode_resource(Key("BlockAffinity", "10.0.0.0/26", "host:a"), b"", 1)
    settings = decode_resource(Key("IPAMConfiguration", "default"), b"{}", 1)

    assert affinity.spec.state == "confirmed"
    assert settings.spec.auto_allocate_blocks is False


def wrong(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> list[str]:
    """The fields that are wrong with a resource."""
    tree = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}
    try:
        from_builtins(tree)
    except InvalidResources as error:
        return [problem.field.removeprefix("spec.") for problem in error.problems]
    return []


AFFINITY = {"state": "confirmed", "node": "a", "type": "host", "cidr": "10.0.0.0/26"}
BLOCK = {"cidr": "10.0.0.0/31", "allocations": [None, None], "unallocated": [0, 1]}
STRICT = {"strictAffinity": True}


@pytest.mark.parametrize(
    ("kind", "name", "spec", "expected"),
    [
        ("BlockAffinity", "a-10-0-0-0-26", AFFINITY, []),
        ("BlockAffinity", "", AFFINITY, []),
        ("BlockAffinity", "b", AFFINITY, ["metadata.name"]),
        ("BlockAffinity", "", AFFINITY | {"deleted": True}, ["deleted"]),
        ("BlockAffinity", "", AFFINITY | {"state": "done", "type": "node"}, ["state", "type"]),
        ("BlockAffinity", "", AFFINITY | {"node": "a/b", "cidr": "x"}, ["node", "cidr"]),
        ("IPAMBlock", "10-0-0-0-31", BLOCK, []),
        ("IPAMBlock", "10-0-0-0-30", BLOCK, ["metadata.name"]),
        ("IPAMBlock", "", BLOCK | {"deleted": True, "unallocated": [2], "allocations": [0, None]}, ["deleted", "allocations[0]", "unallocated[0]"]),
        ("IPAMHandle", "a", {"handleID": "a", "block": {"10.0.0.0/26": 1}}, []),
        ("IPAMHandle", "b", {"handleID": "a", "block": {"x": 1}, "deleted": True}, ["block.x", "deleted", "metadata.name"]),
        ("IPAMHandle", "", {"handleID": "a/b"}, ["handleID"]),
        ("IPAMConfiguration", "default", {}, []),
        ("IPAMConfiguration", "other", {}, ["metadata.name"]),
        ("IPAMConfiguration", "default", {"maxBlocksPerHost": 1, "autoAllocateBlocks": False}, ["maxBlocksPerHost", "autoAllocateBlocks"]),
        ("IPAMConfiguration", "default", STRICT | {"maxBlocksPerHost": 1_000_000, "autoAllocateBlocks": False}, []),
        ("IPAMConfiguration", "default", STRICT | {"maxBlocksPerHost": 1_000_001}, ["maxBlocksPerHost"]),
        ("IPAMConfiguration", "default", {"ipCooldownSeconds": 1200, "kubeVirtVMAddressPersistence": "Enabled"}, []),
        ("IPAMConfiguration", "default", {"ipCooldownSeconds": 1201}, ["ipCooldownSeconds"]),
        ("IPAMConfiguration", "default", {"kubeVirtVMAddressPersistence": "On"}, ["kubeVirtVMAddressPersistence"]),
    ],
)  # fmt: skip
def test_specs(kind: str, name: str, spec: dict[str, Any], expected: list[str]) -> None:
    """Each field, and each pair that needs each other."""
    assert wrong(kind, name, spec) == expected


def test_defaults() -> None:
    """What the names and the defaults are, if nothing is said."""
    tree = {
        "apiVersion": API_VERSION,
        "kind": "BlockAffinity",
        "metadata": {},
        "spec": AFFINITY | {"type": ""},
    }
    affinity = defaulted(from_builtins(tree))

    assert (affinity.metadata.name, affinity.spec.type) == ("a-10-0-0-0-26", "host")
    settings = defaulted(VIEWS["IPAMConfiguration"](metadata=Metadata(name="default")))
    assert settings.spec.auto_allocate_blocks is True


def test_who_may_write() -> None:
    """People write the settings; all else is IPAM's own, and a sentence says so."""
    assert {kind for kind in VIEWS if not KINDS[kind].READ_ONLY} == {"IPAMConfiguration"}


def test_labels_are_not_kept() -> None:
    """People are warned of what a record has no room for."""
    settings = VIEWS["IPAMConfiguration"](metadata=Metadata(name="default", labels={"a": "b"}))

    assert [finding.path for finding in settings.not_done()] == [("metadata", "labels")]


@pytest.mark.parametrize("block", ["foo", "", "10.0.0.0", "10.0.0.0-33", "10.0.0-26", "-26", "x-y"])
@pytest.mark.parametrize("place", ["assignment/ipv4/block", "host/n-1/ipv4/block", "virtual/x/ipv6/block"])
def test_what_is_no_prefix_is_no_block(place: str, block: str) -> None:
    """Whatever others left among the blocks stands for nothing, so that it can stop nobody who reads all of them."""
    assert parse_path(f"/calico/ipam/v2/{place}/{block}") is None
