"""The contract of every packet-filter back end over time: changes, other people's edits, and what is foreign."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from calico.model.address import Family, parse_cidr
from calico.ruleset import ast
from support.backends import FAMILIES, NAMES, Rig, make_rig, nets, rule, table
from support.netns import needs_root
from support.packets import ADDRESS, TCP, UDP, Probe

pytestmark = [pytest.mark.root, needs_root]

ESTABLISHED = rule(ast.CtState(("established", "related")), ast.Accept())


@pytest.fixture(scope="module", params=NAMES)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with make_rig(request.param, "t-ipt-s", tmp_path_factory.mktemp("lock")) as made:
        yield made


@pytest.fixture
def rig(home: Rig) -> Iterator[Rig]:
    """The back end with nothing programmed; what the test programs goes away after it."""
    yield home
    home.inside(home.backend.remove)
    home.world.forget_flows()


def set_name(family: Family, name: str) -> str:
    return f"cali{family}0{name}"


def ports(low: int, high: int | None = None) -> tuple[ast.Match, ...]:
    return (ast.Protocol(UDP), ast.Ports("destination", ((low, high or low),)))


def example(family: Family) -> ast.Table:
    """Only members of a set may send, and only to ports 80 to 89."""
    w1 = parse_cidr(ADDRESS["w1"][family])
    return table(
        family,
        {
            "filter-FORWARD": [
                ESTABLISHED,
                rule(ast.Interface("in", "cali*"), ast.Dispatch("in", "cali-from")),
                rule(ast.Interface("in", "cali*"), ast.Drop()),
            ],
            "cali-fw": [
                rule(ast.InSet("source", set_name(family, "src"), negate=True), ast.Drop()),
                rule(*ports(80, 89), ast.Accept()),
                rule(ast.Drop()),
            ],
        },
        {set_name(family, "src"): ("net", [w1])},
        {"cali-from": {"cali1": ast.Goto("cali-fw"), "cali2": ast.Goto("cali-fw")}},
    )


def probes(family: Family) -> list[Probe]:
    """Permitted; a wrong port; a source that is no member; from outside."""
    return [
        Probe("w1", "w2", family, dport=80),
        Probe("w1", "w2", family, dport=79),
        Probe("w2", "w1", family, dport=80),
        Probe("outside", "w1", family, dport=79),
    ]


AS_DESIRED = [True, False, False, True]


def both(rig: Rig) -> list[bool]:
    """The example's verdicts, if both families agree."""
    verdicts = [rig.passes(*probes(family)) for family in FAMILIES]
    assert verdicts[0] == verdicts[1]
    return verdicts[0]


# --- changes


def test_nothing_is_wrong_after_a_sync(rig: Rig) -> None:
    """A sync reports all that was missing; after it nothing is, for the same back end and for a restarted one."""
    report = rig.load(*map(example, FAMILIES))

    assert {drift.found for drift in report} == {"missing"}
    assert both(rig) == AS_DESIRED
    assert rig.check() == []
    assert rig.inside(lambda: rig.fresh().check(rig.loaded)) == []


def test_a_restart_takes_over(rig: Rig) -> None:
    """A restarted agent finds a former run's rules in place, reports nothing, and can go on changing them."""
    rig.load(*map(example, FAMILIES))

    rig.backend = rig.fresh()

    assert rig.sync() == []
    rig.apply(ast.Change(4, maps={"cali-from": {"cali1": None}}))
    assert rig.passes(*probes(4)) == [False, False, False, True]
    assert rig.check() == []


def test_a_restart_prunes_what_is_no_longer_desired(rig: Rig) -> None:
    """Chains, sets and map entries of a former run that nobody desires any more are taken away."""
    rig.load(*map(example, FAMILIES))
    rig.backend = rig.fresh()

    rig.load(*(table(family, {"filter-FORWARD": [rule(*ports(79), ast.Drop())]}) for family in FAMILIES))

    assert both(rig) == [True, False, True, False]
    assert rig.check() == []
    assert "src" not in dump(rig)


def steps(family: Family) -> list[ast.Change]:
    """A life: a rule, a set, a map, chains and hooks come, change and go."""
    w1, w2 = (parse_cidr(ADDRESS[name][family]) for name in ("w1", "w2"))
    src, listeners = set_name(family, "src"), set_name(family, "new")
    fw = example(family).chains["cali-fw"].rules
    return [
        ast.Change(family, members={src: ast.MemberChange(frozenset({w2}))}),
        ast.Change(family, members={src: ast.MemberChange(removed=frozenset({w1}))}),
        ast.Change(family, chains={"cali-fw": ast.Chain((rule(*ports(79), ast.Accept()), *fw))}),
        ast.Change(
            family,
            sets={listeners: ast.Set("net")},
            members={listeners: ast.MemberChange(frozenset({w1}))},
            chains={
                "cali-new": ast.Chain((rule(ast.InSet("source", listeners), ast.Accept()), rule(ast.Drop()))),
            },
            maps={"cali-from": {"cali1": ast.Goto("cali-new"), "cali2": None}},
        ),
        ast.Change(
            family,
            chains={
                "raw-PREROUTING": ast.Chain((rule(*ports(80), ast.Drop()),), ast.Hook("raw", "prerouting")),
            },
        ),
        ast.Change(
            family,
            sets={listeners: ast.Set("net", "new words")},
            members={listeners: ast.MemberChange(frozenset({w2}))},
        ),
        ast.Change(family, chains={"raw-PREROUTING": None}),
        ast.Change(
            family,
            sets={listeners: None},
            chains={
                "cali-new": None,
                "filter-FORWARD": ast.Chain(
                    (rule(ast.Interface("in", "cali*"), ast.Dispatch("in", "cali-other")),),
                    ast.Hook("filter", "forward"),
                ),
            },
            maps={"cali-other": {"cali1": ast.Drop()}},
            new_maps=frozenset({"cali-other"}),
            gone_maps=frozenset({"cali-from"}),
        ),
        ast.Change(
            family,
            sets={src: None},
            chains={"cali-fw": None, "filter-FORWARD": ast.Chain((), ast.Hook("filter", "forward"))},
            gone_maps=frozenset({"cali-other"}),
        ),
    ]


def test_changes_lead_where_a_sync_would(rig: Rig) -> None:
    """After each change the kernel holds just what a sync to the new state would write, and packets agree."""
    rig.load(*map(example, FAMILIES))
    expected = [
        [True, False, True, True],
        [False, False, True, True],
        [False, True, True, True],
        [True, True, False, True],
        [False, True, False, True],
        [False, False, False, True],
        [False, False, False, True],
        [False, False, True, True],
        [True, True, True, True],
    ]
    found = []
    for pair in zip(*map(steps, FAMILIES), strict=True):
        rig.apply(*pair)
        found.append(both(rig))
        assert rig.check() == []
        assert rig.inside(lambda: rig.fresh().check(rig.loaded)) == []

    assert found == expected


def test_a_change_of_one_family_leaves_the_other_as_it_is_known(rig: Rig) -> None:
    """After a change of one family alone, a removal in the other still takes everything away."""
    rig.load(*map(example, FAMILIES))
    for four, six in zip(*map(steps, FAMILIES), strict=True):
        rig.apply(six)
        rig.apply(four)
        assert rig.inside(lambda: rig.fresh().check(rig.loaded)) == []


def test_doing_it_twice_is_harmless(rig: Rig) -> None:
    """What has been added or replaced already may be said again, and a second sync finds nothing to do."""
    rig.load(*map(example, FAMILIES))

    for pair in [next(zip(*map(steps, FAMILIES), strict=True)), (example_again(4), example_again(6))]:
        rig.apply(*pair)
        rig.apply(*pair)
        assert rig.sync() == []

    assert both(rig) == [True, False, True, True]
    assert rig.check() == []


def example_again(family: Family) -> ast.Change:
    """The chains of the example as they are already."""
    return ast.Change(family, chains={"cali-fw": example(family).chains["cali-fw"]})


@pytest.mark.parametrize("family", FAMILIES)
def test_overlapping_members_are_counted(rig: Rig, family: Family) -> None:
    """An address stays in a set while any prefix that covers it does, and leaves with the last."""
    wide, narrow, low = (
        nets("10.65.0.0/16", "10.65.0.1", "0.0.0.0/1")
        if family == 4
        else nets("fd65::/64", "fd65::1", "8000::/1")
    )
    everything = parse_cidr("0.0.0.0/0" if family == 4 else "::/0")
    name = set_name(family, "cover")
    rules = [rule(ast.Interface("in", "cali*"), ast.InSet("source", name, negate=True), ast.Drop())]
    rig.load(table(family, {"filter-FORWARD": rules}, {name: ("net", [wide, narrow])}))

    def after(*, add: ast.Member | None = None, remove: ast.Member | None = None) -> list[bool]:
        added = frozenset() if add is None else frozenset({add})
        removed = frozenset() if remove is None else frozenset({remove})
        rig.apply(ast.Change(family, members={name: ast.MemberChange(added, removed)}))
        assert rig.check() == []
        return rig.passes(Probe("w1", "w2", family), Probe("w2", "w1", family))

    assert after(remove=wide) == [True, False]
    assert after(add=wide) == [True, True]
    assert after(remove=narrow) == [True, True]
    assert after(remove=wide) == [False, False]
    assert after(add=everything) == [True, True]
    assert after(add=low) == [True, True]
    assert after(remove=everything) == [True, True]
    assert after(add=everything, remove=low) == [True, True]
    assert after(remove=everything) == [False, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_established_flows_outlive_the_rule_that_let_them_in(rig: Rig, family: Family) -> None:
    """A flow that policy accepted goes on in both directions when policy changes; a new one is judged anew."""
    allowed = ast.Chain((ESTABLISHED, rule(ast.Interface("in", "cali1"), ast.Accept()), rule(ast.Drop())))
    denied = ast.Chain((ESTABLISHED, rule(ast.Drop())))
    hook = ast.Hook("filter", "forward")
    rig.load(table(family, {"filter-FORWARD": allowed.rules}))
    there = Probe("w1", "w2", family, sport=7100, dport=7200)
    back = Probe("w2", "w1", family, sport=7200, dport=7100)
    assert rig.passes(there, back) == [True, True]

    rig.apply(ast.Change(family, chains={"filter-FORWARD": ast.Chain(denied.rules, hook)}))

    assert rig.passes(there, back, Probe("w1", "w2", family, sport=7101, dport=7200)) == [True, True, False]


def test_a_real_connection_survives_changes_and_a_restart(rig: Rig) -> None:
    """A TCP connection carries on while rules around it change and the agent starts anew."""
    rig.load(
        *(
            table(
                f, {"filter-FORWARD": [ESTABLISHED, rule(ast.Protocol(TCP), ast.Accept()), rule(ast.Drop())]}
            )
            for f in FAMILIES
        )
    )
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            rig.world.spaces["w2"].call(lambda: socket.create_server((ADDRESS["w2"][4], 7300)))
        )
        client = stack.enter_context(
            rig.world.spaces["w1"].call(lambda: socket.create_connection((ADDRESS["w2"][4], 7300), timeout=5))
        )
        accepted = stack.enter_context(server.accept()[0])
        accepted.settimeout(5)

        rig.load(*(table(f, {"filter-FORWARD": [ESTABLISHED, rule(ast.Drop())]}) for f in FAMILIES))
        rig.backend = rig.fresh()
        rig.sync()
        client.sendall(b"still here")

        assert accepted.recv(100) == b"still here"


def test_nothing_opens_and_nothing_breaks_during_changes(rig: Rig) -> None:
    """While chains, sets and maps around a flow are rewritten, denied packets stay out and permitted ones get through."""
    rig.load(*map(example, FAMILIES))
    permitted, denied, unlisted, _ = probes(4)
    done = threading.Event()
    wrong: list[list[bool]] = []
    rounds = 0

    def watch() -> None:
        nonlocal rounds
        while not done.is_set():
            verdicts = rig.passes(permitted, denied, unlisted)
            rounds += 1
            if verdicts != [True, False, False]:
                wrong.append(verdicts)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fw = example(4).chains["cali-fw"].rules
        for turn in range(12):
            seen = rounds
            while rounds == seen and watcher.is_alive():
                time.sleep(0.001)
            other = parse_cidr(f"192.0.2.{turn}")
            rig.apply(
                ast.Change(
                    4,
                    chains={
                        "cali-fw": ast.Chain(
                            (rule(*ports(100 + turn), ast.Accept()), *fw) if turn % 2 else fw
                        )
                    },
                    members={set_name(4, "src"): ast.MemberChange(frozenset({other}))},
                    maps={"cali-from": {f"cali9{turn}": ast.Drop()}},
                )
            )
            if turn % 4 == 3:
                rig.backend = rig.fresh()
                rig.sync()
    finally:
        done.set()
        watcher.join()

    assert wrong == []


# --- what others do to us


def tamper(rig: Rig, what: str) -> None:
    """Another program's hand in our rules of IPv4."""
    host = rig.world.host
    name = rig.backend.name
    if what == "set emptied":
        lines = ["nft flush set ip calico cali40src"] if name == "nftables" else ["ipset flush cali40src"]
    elif what == "set filled":
        lines = (
            ["nft add element ip calico cali40src { 10.65.0.2 }"]
            if name == "nftables"
            else ["ipset add cali40src 10.65.0.2"]
        )
    elif name == "nftables":
        handle = "$(nft -a list chain ip calico cali-fw | sed -n 's/.*saddr.*drop.*handle //p')"
        lines = {
            "rules deleted": ["nft flush chain ip calico cali-fw"],
            "rule deleted": [f"nft delete rule ip calico cali-fw handle {handle}"],
            "rule edited": [f"nft replace rule ip calico cali-fw handle {handle} ip saddr @cali40src drop"],
            "rule inserted": ["nft insert rule ip calico cali-fw accept"],
            "everything flushed": ["nft delete table ip calico"],
        }[what]
    else:
        tool = (
            name.replace("iptables", "iptables -w")
            .replace("iptables -w-nft", "iptables-nft -w")
            .replace("iptables -w-legacy", "iptables-legacy -w")
        )
        saved = host.run(f"{name}-save", "-t", "filter").stdout
        [line] = [s for s in saved.splitlines() if s.startswith("-A cali-fw") and "src" in s]
        edited = line.removeprefix("-A cali-fw ").replace("! --match-set", "--match-set")
        lines = {
            "rules deleted": [f"{tool} -F cali-fw"],
            "rule deleted": [f"{tool} -D cali-fw 1"],
            "rule edited": [f"{tool} -R cali-fw 1 {edited}"],
            "rule inserted": [f"{tool} -I cali-fw 1 -j ACCEPT"],
            "everything flushed": [f"{tool} -F", f"{tool} -X"],
        }[what]
    host.run("sh", "-e", "-c", "\n".join(lines), env={"XTABLES_LOCKFILE": str(rig.lock_file)})


TAMPERING = {
    "rules deleted": "cali-fw",
    "rule deleted": "cali-fw",
    "rule edited": "cali-fw",
    "rule inserted": "cali-fw",
    "everything flushed": "",
    "set emptied": "cali40src",
    "set filled": "cali40src",
}


@pytest.mark.parametrize("what", list(TAMPERING))
def test_edits_of_others_are_found_and_mended(rig: Rig, what: str) -> None:
    """Whatever others did to our objects, check sees it, sync names it and mends it, and packets are judged right."""
    rig.load(*map(example, FAMILIES))
    tamper(rig, what)
    assert rig.passes(*probes(4)) != AS_DESIRED

    seen = rig.check()
    still_there = rig.check()
    mended = rig.sync()

    assert seen == still_there
    assert sorted(seen) == sorted(mended)
    assert any(TAMPERING[what] in drift.what and drift.family == 4 for drift in mended)
    assert {drift.family for drift in mended} == {4}
    assert both(rig) == AS_DESIRED
    assert rig.check() == []


def test_edits_are_found_after_later_changes(rig: Rig) -> None:
    """A change to another chain neither hides an edit nor is disturbed by it."""
    rig.load(*map(example, FAMILIES))
    tamper(rig, "rule edited")
    rig.apply(ast.Change(4, members={"cali40src": ast.MemberChange(frozenset(nets("192.0.2.1")))}))
    rig.apply(ast.Change(4, maps={"cali-from": {"cali9": ast.Drop()}}))

    assert any("cali-fw" in drift.what for drift in rig.check())
    rig.sync()

    assert rig.passes(*probes(4)) == AS_DESIRED
    assert rig.check() == []


def test_a_failed_change_is_repaired_by_sync(rig: Rig) -> None:
    """When the kernel refuses a change, an error says so, and a sync brings everything to what is desired."""
    from calico.programming.backend import ProgrammingError

    rig.load(*map(example, FAMILIES))
    broken = ast.Change(
        4, chains={"cali-fw": ast.Chain((rule(ast.InSet("source", "cali40none"), ast.Accept()),))}
    )

    with pytest.raises(ProgrammingError):
        rig.inside(lambda: rig.backend.apply([broken]))

    rig.sync()
    assert both(rig) == AS_DESIRED
    assert rig.check() == []


# --- what is not ours


def dump(rig: Rig) -> str:
    """All rules and sets of the host's namespace, of every kind, without counters and without empty tables."""
    host = rig.world.host
    parts = [host.run("nft", "list", "ruleset").stdout, host.run("ipset", "save").stdout]
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        path = f"/proc/net/{program.split('-')[0].replace('tables', '_tables')}_names"
        if host.run("cat", path, check=False).stdout.strip():
            parts.append(host.run(program).stdout)
    text = "\n".join(parts)
    text = re.sub(r"counter packets \d+ bytes \d+", "counter", text)
    text = re.sub(r"\[\d+:\d+\]|^#.*$|initval \S+", "", text, flags=re.MULTILINE)
    # Hooks that a tool has made for its tables stay there, without rules.
    text = re.sub(r"\tchain \w+ \{\n\t\ttype [^\n]*policy accept;\n\t\}\n+", "", text)
    text = re.sub(r"table \w+ \w+ \{\n\}\n", "", text)
    text = re.sub(r"\*\w+\n(:[A-Z]+ ACCEPT *\n)+COMMIT\n", "", text)
    return "\n".join(line for line in text.splitlines() if line.strip())


FOREIGN = """
nft add table inet others
nft add set inet others s '{ type ipv4_addr; elements = { 10.1.1.1, 10.1.1.2 }; }'
nft add chain inet others c '{ type filter hook forward priority 5; }'
nft add rule inet others c ip saddr @s counter drop
ipset create theirs hash:ip
ipset add theirs 10.9.9.9
ipset create cali-like hash:net family inet6
{tool} -N THEIRS
{tool} -A THEIRS -m comment --comment "not yours" -j RETURN
{tool} -A FORWARD -m set --match-set theirs src -j DROP
{tool} -A FORWARD -j THEIRS
{tool} -t nat -A POSTROUTING -s 10.77.0.0/16 -j MASQUERADE
"""
AWAY = """
nft delete table inet others
{tool} -F; {tool} -X; {tool} -t nat -F
ipset destroy theirs; ipset destroy cali-like
"""


def test_what_is_foreign_stays_as_it_is(rig: Rig) -> None:
    """Tables, chains, rules and sets of others are the same before, during and after, also when things go wrong."""
    tool = "iptables-legacy" if rig.backend.name == "iptables-legacy" else "iptables-nft"
    host = rig.world.host
    environment = {"XTABLES_LOCKFILE": str(rig.lock_file)}
    host.run("sh", "-e", "-c", FOREIGN.replace("{tool}", tool), env=environment)
    try:
        before = dump(rig)
        rig.load(*map(example, FAMILIES))
        foreign_lines = [
            line for line in before.splitlines() if re.search(r"others|theirs|THEIRS|10\.77|saddr", line)
        ]
        for pair in zip(*map(steps, FAMILIES), strict=True):
            rig.apply(*pair)
            during = dump(rig).splitlines()
            assert [line for line in foreign_lines if line not in during] == []
        rig.load(*map(example, FAMILIES))
        tamper(rig, "rule edited")
        rig.sync()
        assert both(rig) == AS_DESIRED

        rig.inside(rig.backend.remove)

        assert dump(rig) == before
    finally:
        rig.inside(rig.backend.remove)
        host.run("sh", "-c", AWAY.replace("{tool}", tool), env=environment)


def test_remove_leaves_the_namespace_as_it_was(rig: Rig) -> None:
    """Nothing of ours is left after remove, and removing again, or from an empty host, is no error."""
    before = dump(rig)
    rig.inside(rig.fresh().remove)
    rig.load(*map(example, FAMILIES))
    rig.inside(rig.fresh().remove)
    rig.inside(rig.backend.remove)

    assert dump(rig) == before
    assert both(rig) == [True] * 4


def test_a_broken_change_is_rejected(rig: Rig) -> None:
    """The error of a change that cannot work says so, and not that one should try again."""
    from calico.programming.backend import Rejected

    rig.load(*map(example, FAMILIES))
    broken = ast.Change(
        4, chains={"cali-fw": ast.Chain((rule(ast.InSet("source", "cali40none"), ast.Accept()),))}
    )

    with pytest.raises(Rejected):
        rig.inside(lambda: rig.backend.apply([broken]))
