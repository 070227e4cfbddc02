"""Neighbour table limits: raised where needed, put back exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.lab import limits


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A machine's limits as the kernel sets them."""
    for family in limits.FAMILIES:
        home = tmp_path / "sys" / family / "neigh" / "default"
        home.mkdir(parents=True)
        for name, value in {"gc_thresh1": 128, "gc_thresh2": 512, "gc_thresh3": 1024}.items():
            (home / name).write_text(f"{value}\n")
    return tmp_path / "sys"


def values(settings: Path) -> list[int]:
    return [
        int((settings / family / "neigh" / "default" / name).read_text())
        for family in limits.FAMILIES
        for name in sorted(limits.RAISED)
    ]


BEFORE = [128, 512, 1024] * 2
AFTER = [8192, 16384, 32768] * 2


def test_a_small_lab_changes_nothing(settings: Path, tmp_path: Path) -> None:
    """Where the machine's limits do, they stay, and nothing is said."""
    said: list[str] = []

    limits.ensure(tmp_path, 100, said.append, settings=settings)

    assert (values(settings), said, (tmp_path / limits.RECORD).exists()) == (BEFORE, [], False)


def test_a_large_lab_raises_them_and_the_last_one_puts_them_back(settings: Path, tmp_path: Path) -> None:
    """Raised once for two labs; the record keeps the values of before the first."""
    said: list[str] = []
    limits.ensure(tmp_path, 1000, said.append, settings=settings)
    limits.ensure(tmp_path, 9000, said.append, settings=settings)
    assert values(settings) == AFTER
    assert len(said) == 2  # once a family: the second lab needs no more

    limits.restore(tmp_path, said.append, settings=settings)

    assert values(settings) == BEFORE
    assert not (tmp_path / limits.RECORD).exists()


def test_a_limit_that_somebody_else_changed_meanwhile_is_left_alone(settings: Path, tmp_path: Path) -> None:
    """What is no longer ours is not put back."""
    limits.ensure(tmp_path, 1000, lambda _: None, settings=settings)
    other = settings / "ipv4" / "neigh" / "default" / "gc_thresh3"
    other.write_text("65536")

    limits.restore(tmp_path, lambda _: None, settings=settings)

    assert values(settings) == [128, 512, 65536, 128, 512, 1024]


def test_limits_are_never_lowered(settings: Path, tmp_path: Path) -> None:
    """A machine that allows more keeps it."""
    for family in limits.FAMILIES:
        (settings / family / "neigh" / "default" / "gc_thresh3").write_text("100000")

    limits.ensure(tmp_path, 1000, lambda _: None, settings=settings)

    assert values(settings) == [8192, 16384, 100000] * 2


def test_where_the_limits_cannot_be_seen_a_large_lab_says_what_it_needs(tmp_path: Path) -> None:
    """A container with a network namespace of its own runs labs too; a small one has nothing to say."""
    said: list[str] = []

    limits.ensure(tmp_path / "lab", 100, said.append, settings=tmp_path / "nothing")
    assert said == []

    limits.ensure(tmp_path / "lab", 4_000, said.append, settings=tmp_path / "nothing")
    assert [line.partition(" cannot")[0] for line in said] == [
        "net.ipv4.neigh.default.gc_thresh2",
        "net.ipv6.neigh.default.gc_thresh2",
    ]
    assert all("at least 8000" in line for line in said)
    assert not (tmp_path / "lab").exists()
