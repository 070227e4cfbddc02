"""What only iptables and ipset have: jumps among foreign rules, locks, lying tools, sets in use."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from calico.model.address import Family, parse_cidr
from calico.programming import command
from calico.programming.backend import Busy, Missing, Rejected
from calico.programming.iptables import Iptables, detect_variant
from calico.ruleset import ast
from support.backends import FAMILIES, Rig, make_rig, nets, rule, table
from support.netns import needs_root
from support.packets import Probe

pytestmark = [pytest.mark.root, needs_root]

SET = "cali40src"


@pytest.fixture(scope="module", params=["iptables-nft", "iptables-legacy"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-ipt-i", tmp_path_factory.mktemp("lock")) as made:
        yield made


@pytest.fixture
def rig(home: Rig) -> Iterator[Rig]:
    """The back end with nothing programmed; what the test programs goes away after it."""
    yield home
    run(home, "iptables", "-F")
    run(home, "iptables", "-X")
    home.inside(home.backend.remove)


def example(family: Family = 4) -> ast.Table:
    """Members of a set may not send from workloads."""
    name = SET if family == 4 else "cali60src"
    rules = [rule(ast.Interface("in", "cali*"), ast.InSet("source", name), ast.Drop())]
    return table(
        family, {"filter-FORWARD": rules}, {name: ("net", nets("10.65.0.1" if family == 4 else "fd65::1"))}
    )


def tool(rig: Rig, name: str) -> str:
    return name + rig.backend.name.removeprefix("iptables")


def run(rig: Rig, name: str, *arguments: str) -> str:
    """The variant's own program, with the lock of this host."""
    environment = {"XTABLES_LOCKFILE": str(rig.lock_file)}
    return rig.world.host.run(tool(rig, name), "-w", *arguments, env=environment).stdout


def rules_of(rig: Rig, chain: str) -> list[str]:
    saved = rig.world.host.run(tool(rig, "iptables") + "-save", "-t", "filter").stdout
    return [line for line in saved.splitlines() if line.startswith(f"-A {chain} ")]


def test_our_jump_returns_to_the_top(rig: Rig) -> None:
    """A rule that somebody inserted above ours is found, and stays, below ours again."""
    rig.load(example())
    run(rig, "iptables", "-I", "FORWARD", "-i", "cali1", "-j", "ACCEPT")
    assert rig.passes(Probe("w1", "w2")) == [True]

    assert [(drift.what, drift.found) for drift in rig.check()] == [
        ("calls from FORWARD in table filter", "changed")
    ]
    rig.sync()

    assert rig.passes(Probe("w1", "w2")) == [False]
    first, second = rules_of(rig, "FORWARD")
    assert "cali-FORWARD" in first
    assert "-i cali1" in second


def test_jumps_are_not_multiplied(rig: Rig) -> None:
    """Doubled, moved and edited jumps become one again, and one that hangs elsewhere goes."""
    rig.load(example())
    run(rig, "iptables", "-A", "FORWARD", "-j", "cali-FORWARD")
    run(rig, "iptables", "-A", "FORWARD", "-p", "tcp", "-j", "cali-FORWARD")
    run(rig, "iptables", "-A", "INPUT", "-j", "cali-FORWARD")
    run(rig, "iptables", "-N", "THEIRS")
    run(rig, "iptables", "-A", "THEIRS", "-g", "cali-FORWARD")

    rig.sync()

    assert len(rules_of(rig, "FORWARD")) == 1
    assert rules_of(rig, "INPUT") == rules_of(rig, "THEIRS") == []
    assert rig.check() == []


def test_appended_chains_stay_behind_foreign_rules(rig: Rig) -> None:
    """What is to come last is behind the host's own rules, the rest before them."""
    run(rig, "iptables", "-A", "FORWARD", "-s", "10.99.0.1", "-j", "DROP")
    made = example()
    made.chains["filter-FORWARD-late"] = ast.Chain(
        (rule(ast.Accept()),), ast.Hook("filter", "forward", append=True)
    )

    rig.load(made)

    assert ["late" in line or "10.99" in line for line in rules_of(rig, "FORWARD")] == [False, True, True]
    assert "late" in rules_of(rig, "FORWARD")[-1]
    assert rig.check() == []


def test_a_held_lock_is_busy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another program holds the lock the back end says so, and works once it is free again; iptables-nft needs none."""
    needed = rig.backend.name == "iptables-legacy"
    monkeypatch.setattr("calico.programming.iptables._WAIT", "1")
    rig.load(example())
    with rig.lock_file.open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="lock") if needed else contextlib.nullcontext():
            rig.apply(ast.Change(4, chains={"filter-FORWARD": ast.Chain((), ast.Hook("filter", "forward"))}))

    rig.sync()
    assert rig.check() == []


def test_a_silent_save_is_not_believed(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When iptables-save succeeds with nothing to say about a table that we wrote, that is an error, not a licence."""
    rig.load(example())
    before = rules_of(rig, "FORWARD")
    for name in ("iptables", "ip6tables"):
        liar = tmp_path / f"{tool(rig, name)}-save"
        liar.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
        liar.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path), prepend=":")
        with pytest.raises(Busy):
            rig.check()
        with pytest.raises(Busy):
            rig.sync()

    rig.sync()
    assert rules_of(rig, "FORWARD") == before
    assert len(before) == 1


def test_half_a_save_is_not_believed(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output without its end is an error, whatever the exit status says."""
    rig.load(example())
    liar = tmp_path / f"{tool(rig, 'iptables')}-save"
    liar.write_text("#!/bin/sh\necho '*filter'\necho ':FORWARD ACCEPT [0:0]'\n", encoding="ascii")
    liar.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(Busy, match="ends within"):
        rig.check()


def test_a_set_in_use_goes_later(rig: Rig) -> None:
    """A set that a foreign rule still uses stays without complaint, and goes once it is free."""
    rig.load(example())
    run(rig, "iptables", "-A", "FORWARD", "-m", "set", "--match-set", SET, "dst", "-j", "DROP")

    gone = ast.Change(
        4, chains={"filter-FORWARD": ast.Chain((), ast.Hook("filter", "forward"))}, sets={SET: None}
    )
    rig.apply(gone)
    assert SET in rig.world.host.run("ipset", "save").stdout
    assert rig.check() == []

    run(rig, "iptables", "-D", "FORWARD", "-m", "set", "--match-set", SET, "dst", "-j", "DROP")
    rig.apply(ast.Change(4, chains={"cali-x": ast.Chain(())}))
    assert SET not in rig.world.host.run("ipset", "save").stdout


def test_a_set_that_comes_back_forgets_its_members(rig: Rig) -> None:
    """A set that could not go and is wanted again holds the new members only."""
    rig.load(example())
    run(rig, "iptables", "-A", "FORWARD", "-m", "set", "--match-set", SET, "dst", "-j", "ACCEPT")
    chain = rig.loaded[4].chains["filter-FORWARD"]
    empty = ast.Chain((), ast.Hook("filter", "forward"))
    rig.apply(ast.Change(4, chains={"filter-FORWARD": empty}, sets={SET: None}))

    new = ast.MemberChange(frozenset(nets("10.65.0.2")))
    rig.apply(ast.Change(4, chains={"filter-FORWARD": chain}, sets={SET: ast.Set("net")}, members={SET: new}))

    assert rig.passes(Probe("w1", "w2"), Probe("w2", "w1")) == [True, False]
    assert rig.check() == []


def test_a_set_of_other_making_is_made_anew(rig: Rig) -> None:
    """A leftover of another type or size is replaced, also while rules use it where the kernel allows."""
    host = rig.world.host
    host.run("ipset", "create", SET, "hash:ip,port")
    assert any("hash:ip,port" in drift.found for drift in rig.load(example()))
    assert rig.passes(Probe("w1", "w2")) == [False]

    host.run("ipset", "create", "small", "hash:net", "maxelem", "10")
    host.run("ipset", "swap", "small", SET)
    host.run("ipset", "destroy", "small")
    assert any("10 members" in drift.found for drift in rig.sync())
    assert rig.passes(Probe("w1", "w2"), Probe("w2", "w1")) == [False, True]
    assert rig.check() == []
    assert "cali4t" not in host.run("ipset", "save").stdout


def test_leftovers_are_pruned(rig: Rig) -> None:
    """Chains and sets with our names that nobody desires go, those of others stay."""
    host = rig.world.host
    rig.load(example())
    for name in ("cali40old", "cali4t7"):
        host.run("ipset", "create", name, "hash:net")
    run(rig, "iptables", "-t", "mangle", "-N", "cali-old")
    run(rig, "iptables", "-t", "mangle", "-I", "PREROUTING", "-j", "cali-old")

    report = {drift.what for drift in rig.sync()}

    assert report == {
        "set cali40old",
        "set cali4t7",
        "chain cali-old in table mangle",
        "calls from PREROUTING in table mangle",
    }
    assert rig.check() == []


def test_large_sets_are_written_in_one_go(rig: Rig) -> None:
    """Twenty thousand members are one restore, not twenty thousand commands."""
    members = frozenset(parse_cidr(f"10.{a}.{b}.0/24") for a in range(80) for b in range(250))
    rig.load(example())

    rig.apply(ast.Change(4, members={SET: ast.MemberChange(added=members)}))
    assert rig.check() == []
    rig.apply(ast.Change(4, members={SET: ast.MemberChange(removed=members)}))
    assert rig.check() == []


def test_a_concurrent_writer_loses_nothing(rig: Rig) -> None:
    """Another program that keeps adding rules of its own finds all of them, and we ours."""
    rig.load(example())
    done = threading.Event()
    added: list[str] = []

    def add() -> None:
        while not done.is_set() and len(added) < 200:
            address = f"10.88.0.{len(added)}"
            run(rig, "iptables", "-A", "FORWARD", "-s", address, "-j", "DROP")
            added.append(address)

    other = threading.Thread(target=add)
    other.start()
    try:
        for turn in range(10):
            rules = (rule(ast.Ports("destination", ((turn, turn),)), ast.Drop()),)
            rig.apply(
                ast.Change(4, chains={"filter-FORWARD": ast.Chain(rules, ast.Hook("filter", "forward"))})
            )
    finally:
        done.set()
        other.join()

    assert rig.check() == []
    theirs = [line for line in rules_of(rig, "FORWARD") if "10.88.0." in line]
    assert len(theirs) == len(added) > 0


def test_changes_need_a_sync_first(rig: Rig) -> None:
    """Nothing is written on top of a kernel that has not been read."""
    with pytest.raises(Rejected, match="sync"):
        rig.inside(lambda: rig.fresh().apply([ast.Change(4, chains={"cali-x": ast.Chain(())})]))


def test_the_variant_in_use_is_found(rig: Rig) -> None:
    """The variant that holds the host's rules is the one to use, and looking for it makes no table."""
    proc = "/proc/net/ip_tables_names"
    before = rig.world.host.run("cat", proc, check=False).stdout
    assert rig.inside(detect_variant) == "nft"
    assert rig.world.host.run("cat", proc, check=False).stdout == before

    run(rig, "iptables", "-A", "FORWARD", "-s", "10.99.0.1", "-j", "DROP")

    assert rig.inside(detect_variant) == rig.backend.name.removeprefix("iptables-")


def test_both_variants_can_take_turns(rig: Rig) -> None:
    """The other variant's leftovers can be removed without taking away the sets that ours uses."""
    rig.load(*map(example, FAMILIES))
    mine = rig.backend.name.removeprefix("iptables-")
    other = Iptables("legacy" if mine == "nft" else "nft", str(rig.lock_file))

    rig.inside(other.remove)

    assert rig.check() == []
    assert rig.passes(Probe("w1", "w2")) == [False]


def test_missing_programs_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the programs the error says which is missing, and what brings it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="package iptables"):
        command.run("iptables-nft-save")
    with pytest.raises(Missing, match="package ipset"):
        command.run("ipset", "save")
    with pytest.raises(Missing, match="neither"):
        detect_variant()


def test_a_program_that_hangs_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end is stopped, and the error says to try again."""
    monkeypatch.setattr(command, "TIMEOUT", 0.05)
    with pytest.raises(Busy, match="did not end"):
        command.run("sleep", "5")


def test_errors_quote_the_line(rig: Rig) -> None:
    """A refused text is reported with the line of ours that the program means."""
    rig.load(example())
    broken = ast.Change(
        4, chains={"cali-x": ast.Chain((rule(ast.InSet("source", "cali40none"), ast.Accept()),))}
    )
    called = ast.Change(
        4, chains={"filter-FORWARD": ast.Chain((rule(ast.Jump("cali-x")),), ast.Hook("filter", "forward"))}
    )
    rig.inside(lambda: rig.backend.apply([broken]))

    with pytest.raises(Rejected, match=r"\[-A cali-x .*cali40none"):
        rig.inside(lambda: rig.backend.apply([called]))

    rig.sync()
    assert rig.check() == []
