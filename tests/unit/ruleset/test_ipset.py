"""Sets as ipsets."""

from __future__ import annotations

from calico.desired import PortMember
from calico.model.address import parse_address, parse_cidr
from calico.ruleset import ast
from calico.ruleset.ipset import (
    create,
    difference,
    header,
    kernel_set_name,
    members_text,
    parse_save,
    removed_text,
)

SAVE = """\
create cali40s-n hash:net family inet hashsize 1024 maxelem 1048576 bucketsize 12 initval 0x503edff
add cali40s-n 10.0.0.0/8
add cali40s-n 10.0.0.1
create theirs hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1
add theirs 10.0.0.2
create cali60n-p hash:ip,port family inet6 hashsize 1024 maxelem 65536 bucketsize 12 initval 0x2
add cali60n-p fd00::1,tcp:80
create cali4t0 hash:net family inet hashsize 1024 maxelem 65536
"""


def test_names_are_short_stable_and_ours() -> None:
    """A name that is ours already stays; any other gets our prefix; one that is too long or odd is hashed."""
    assert kernel_set_name(4, "cali40s-n") == "cali40s-n"
    assert kernel_set_name(6, "pools") == "cali60pools"
    long = [kernel_set_name(4, "x" * 40), kernel_set_name(4, "x" * 41), kernel_set_name(4, "a b")]
    assert len(set(long)) == 3
    assert all(len(name) <= 31 and name.startswith("cali40_") for name in long)


def test_members_as_ipset_writes_them() -> None:
    """Addresses without length, prefixes with it, everything as two halves, ports with their protocol's name."""
    members: list[ast.Member] = [parse_cidr("10.0.0.1"), parse_cidr("10.0.0.0/8"), parse_cidr("0.0.0.0/0")]
    assert list(members_text(members)) == ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/1", "128.0.0.0/1"]
    assert list(members_text([parse_cidr("::/0")])) == ["::/1", "8000::/1"]
    ports = [PortMember(parse_address("fd00::1"), protocol, 80) for protocol in (6, 17, 132, 136, 47)]
    assert list(members_text(ports)) == [f"fd00::1,{name}:80" for name in ("tcp", "udp", "sctp", "udplite")]


def test_a_half_stays_while_a_member_needs_it() -> None:
    """Everything and its lower half share an entry, which goes with the last of them."""
    everything, low, other = parse_cidr("0.0.0.0/0"), parse_cidr("0.0.0.0/1"), parse_cidr("10.0.0.0/8")
    assert removed_text([everything], {low, other}) == {"128.0.0.0/1"}
    assert removed_text([low], {everything}) == set()
    assert removed_text([everything, low], {other}) == {"0.0.0.0/1", "128.0.0.0/1"}


def test_save_is_read_for_our_sets_only() -> None:
    """Sets of others are passed over; ours come with type, family, limit and members."""
    found = parse_save(SAVE)
    assert list(found) == ["cali40s-n", "cali60n-p", "cali4t0"]
    assert found["cali40s-n"].members == {"10.0.0.0/8", "10.0.0.1"}
    assert (found["cali40s-n"].header, found["cali40s-n"].size) == ("hash:net family inet", 1048576)
    assert found["cali60n-p"].header == header(6, ast.Set("port"))
    assert list(parse_save(SAVE, (6,))) == ["cali60n-p"]


def test_create_and_header_agree() -> None:
    """What we make is read back as what we want."""
    for kind in (ast.Set("address"), ast.Set("net"), ast.Set("port")):
        made = parse_save(create("cali40x", kind, 4))["cali40x"]
        assert made.header == header(4, kind)
        assert made.size == 1 << 20


def test_spelling_is_no_difference() -> None:
    """An address that the program spells otherwise is the same member; a wrong or odd entry is not."""
    wanted = {"::ffff:102:304", "fd00::1,tcp:80", "fd00::/64"}
    found = {"::ffff:1.2.3.4", "fd00:0::1,tcp:80", "fd00::2", "fd00::3 nomatch"}
    assert difference(wanted, found) == ({"fd00::/64"}, {"fd00::2", "fd00::3 nomatch"})
    assert difference(wanted, wanted) == (set(), set())
