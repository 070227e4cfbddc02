from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from calico.model.address import WIDTH, Cidr, parse_cidr
from calico.ruleset import cover
from calico.ruleset.cover import Cover, maximal


@st.composite
def nets(draw: st.DrawFn, family: int) -> Cidr:
    """Prefixes that often contain each other: few bits at either end of the address."""
    width = WIDTH[family]
    length = draw(st.sampled_from([0, 1, 2, 3, 4, width - 3, width - 2, width - 1, width]))
    value = draw(st.integers(0, 15)) << (width - 4) | draw(st.integers(0, 7))
    return Cidr(family, value >> (width - length) << (width - length), length)


def naive(members: set[Cidr]) -> set[Cidr]:
    """The obvious way: a prefix counts if no other contains it."""
    return {net for net in members if not any(other != net and other.contains(net) for other in members)}


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[set[Cidr], set[Cidr]]]:
    family = draw(st.sampled_from([4, 6]))
    step = st.tuples(st.sets(nets(family), max_size=6), st.sets(nets(family), max_size=6))
    return [(added, removed - added) for added, removed in draw(st.lists(step, max_size=12))]


@given(histories(), st.sampled_from([0, 8]))
@settings(max_examples=150)
def test_follows_the_obvious_way(history: list[tuple[set[Cidr], set[Cidr]]], share: int) -> None:
    """After any history the cover is what it would be from scratch, and each step said exactly what changed."""
    members: set[Cidr] = set()
    kernel: set[Cidr] = set()
    followed = Cover()
    usual, cover.REBUILD_SHARE = cover.REBUILD_SHARE, share
    try:
        for added, removed in history:
            members = (members - removed) | added
            gained, lost = followed.update(added, removed)
            assert not set(gained) & set(lost)
            assert set(lost) <= kernel
            assert not set(gained) & kernel
            kernel = (kernel - set(lost)) | set(gained)
            assert kernel == naive(members) == set(followed) == set(maximal(members))
    finally:
        cover.REBUILD_SHARE = usual


def test_a_covered_prefix_comes_back() -> None:
    """When the covering prefix goes, what it covered is matched on its own again."""
    wide, narrow, other = parse_cidr("10.0.0.0/8"), parse_cidr("10.1.0.0/16"), parse_cidr("10.1.2.0/24")
    followed = Cover([wide, narrow, other, *(Cidr(4, n << 24, 16) for n in range(20, 60))])

    assert followed.update([], [wide]) == ([narrow], [wide])
    assert followed.update([wide], [narrow]) == ([wide], [narrow])
    assert followed.update([], [wide]) == ([other], [wide])


def test_everything_is_covered_by_the_whole_address_space() -> None:
    """0.0.0.0/0 stands alone."""
    assert list(
        maximal([parse_cidr("0.0.0.0/0"), parse_cidr("255.255.255.255/32"), parse_cidr("0.0.0.0/1")])
    ) == [parse_cidr("0.0.0.0/0")]
