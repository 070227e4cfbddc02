"""Rulesets as chains of iptables."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from calico.desired import Origin
from calico.model.address import Family, parse_cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from calico.rendering.static import MAPS
from calico.ruleset import ast
from calico.ruleset.iptables import Compiler, Image, Images, TableName, chain_name, hashed
from calico.ruleset.iptables_save import difference, restore

GOLDEN = Path(__file__).parents[2] / "golden" / "iptables"
ONE = 0x10000


def rule(*parts: ast.Match | ast.Statement, origin: Origin | None = None, comment: str = "") -> ast.Rule:
    matches = tuple(part for part in parts if isinstance(part, ast.Match))
    statements = tuple(part for part in parts if not isinstance(part, ast.Match))
    return ast.Rule(matches, statements, origin, comment)


def images(
    chains: dict[str, list[ast.Rule]], maps: dict[str, dict[str, ast.Verdict]] | None = None
) -> Images:
    return Compiler(table(chains, maps)).images()


def table(
    chains: dict[str, list[ast.Rule]],
    maps: dict[str, dict[str, ast.Verdict]] | None = None,
    family: Family = 4,
) -> ast.Table:
    made = ast.Table(family, maps=dict(maps or {}))
    for name, rules in chains.items():
        of, _, hook = name.partition("-")
        where = None if of == "cali" else ast.Hook(of, hook.lower())  # type: ignore[arg-type]
        made.chains[name] = ast.Chain(tuple(rules), where)
    return made


def plain(image: Image) -> dict[str, list[str]]:
    """The rules of each chain without their hashes."""
    return {
        chain: [re.sub(r"-m comment --comment cali:\S+ ", "", text) for text in rules]
        for chain, rules in image.chains.items()
    }


def forward(*rules: ast.Rule, maps: dict[str, dict[str, ast.Verdict]] | None = None) -> dict[str, list[str]]:
    return plain(images({"filter-FORWARD": list(rules), "cali-x": []}, maps)["filter"])


def test_base_chains_hang_at_the_top() -> None:
    """A base chain is called from the top of the kernel's chain, behind the foreign rules only where it says so."""
    made = table({"filter-FORWARD": [], "nat-POSTROUTING": []})
    made.chains["filter-FORWARD-late"] = ast.Chain((), ast.Hook("filter", "forward", append=True))
    found = Compiler(made).images()
    assert found["filter"].jumps["FORWARD"].top == hashed("FORWARD", ["-j cali-FORWARD"])
    assert found["filter"].jumps["FORWARD"].bottom == hashed("FORWARD", ["-j cali-FORWARD-late"])
    assert found["nat"].jumps["POSTROUTING"].bottom == hashed("POSTROUTING", ["-j cali-POSTROUTING"])
    assert found["nat"].jumps["POSTROUTING"].top == ()


def test_chains_go_where_they_can_be_reached() -> None:
    """A chain is in every table from whose hooks a call or a map leads to it, and nowhere else."""
    found = images(
        {
            "filter-FORWARD": [rule(ast.Jump("cali-both")), rule(ast.Dispatch("in", "m"))],
            "raw-PREROUTING": [rule(ast.Goto("cali-both"))],
            "cali-both": [rule(ast.Jump("cali-deep"))],
            "cali-deep": [],
            "cali-mapped": [],
            "cali-unused": [],
        },
        {"m": {"cali1": ast.Goto("cali-mapped")}},
    )
    assert set(found["raw"].chains) == {"cali-PREROUTING", "cali-both", "cali-deep"}
    assert set(found["filter"].chains) == {"cali-FORWARD", "cali-both", "cali-deep", "cali-mapped"}
    assert found["mangle"].chains == found["nat"].chains == {}


def test_one_statement_is_one_rule() -> None:
    """Each statement in iptables' words."""
    found = forward(
        rule(ast.Accept()),
        rule(ast.Drop()),
        rule(ast.Return()),
        rule(ast.Jump("cali-x")),
        rule(ast.Goto("cali-x")),
        rule(ast.SetMark(ONE, 0x30000)),
        rule(ast.Log('calico-packet "x": and more than fits')),
    )
    assert found["cali-FORWARD"] == [
        "-j ACCEPT",
        "-j DROP",
        "-j RETURN",
        "-j cali-x",
        "-g cali-x",
        "-j MARK --set-xmark 0x10000/0x30000",
        '-j LOG --log-prefix "calico-packet \\"x\\": and more t" --log-level 5',
    ]


@pytest.mark.parametrize(
    ("rate", "burst", "written"),
    [
        ("10/second", 5, "10/second --limit-burst 5"),
        ("100/hour", 9999, "100/hour --limit-burst 2400"),
        ("1/day", 5, "1/day --limit-burst 1"),
        ("9999/day", 9999, "9999/day --limit-burst 9999"),
        ("1/minute", 9999, "1/minute --limit-burst 1440"),
    ],
)
def test_a_log_with_a_rate_asks_the_limit_last(rate: str, burst: int, written: str) -> None:
    """Only packets that the rule is about use it up; a burst that the kernel would refuse is cut."""
    found = forward(rule(ast.Protocol(6), ast.Ports("destination", ((80, 80),)), ast.Log("x", rate, burst)))
    [line] = found["cali-FORWARD"]
    assert (
        line
        == f"-p 6 -m multiport --dports 80 -m limit --limit {written} -j LOG --log-prefix x --log-level 5"
    )


def test_what_follows_a_log_with_a_rate_would_have_it_too() -> None:
    """So nothing may: such a ruleset is a mistake of whoever made it."""
    with pytest.raises(ValueError, match="may have a rate"):
        forward(rule(ast.Log("x", "1/second"), ast.Drop()))


def test_several_statements_share_a_chain() -> None:
    """Rules that do the same go to one chain; a verdict at its end is the caller's, without one it comes back."""
    found = forward(
        rule(ast.Protocol(6), ast.SetMark(ONE, ONE), ast.Return()),
        rule(ast.Protocol(17), ast.SetMark(ONE, ONE), ast.Return()),
        rule(ast.SetMark(ONE, ONE), ast.Log("x")),
        rule(ast.SetMark(ONE, ONE), ast.Jump("cali-x")),
    )
    first, second, third, fourth = (line.split() for line in found["cali-FORWARD"])
    assert first[-1] == second[-1]
    assert [first[-2], third[-2], fourth[-2]] == ["-g", "-j", "-j"]
    assert found[first[-1]] == ["-j MARK --set-xmark 0x10000/0x10000", "-j RETURN"]
    assert found[fourth[-1]][-1] == "-j cali-x"


def test_refusal_knows_tcp_and_tables() -> None:
    """TCP is reset, the rest gets an ICMP error; where iptables cannot refuse, the packet is dropped."""
    made = images({"filter-FORWARD": [rule(ast.Reject())], "raw-PREROUTING": [rule(ast.Reject())]})
    [line] = plain(made["filter"])["cali-FORWARD"]
    assert plain(made["filter"])[line.split()[-1]] == [
        "-p 6 -j REJECT --reject-with tcp-reset",
        "-j REJECT --reject-with icmp-port-unreachable",
    ]
    assert plain(made["raw"])["cali-PREROUTING"] == ["-j DROP"]


def test_small_maps_are_lists() -> None:
    """A few interfaces are a rule each, then come the remaining rules."""
    entries: dict[str, ast.Verdict] = {
        "cali2": ast.Drop(),
        "cali1": ast.Goto("cali-x"),
        "bad name": ast.Accept(),
    }
    found = forward(rule(ast.Dispatch("in", "m")), rule(ast.Drop()), maps={"m": entries})
    assert found["cali-FORWARD"] == ["-i cali1 -g cali-x", "-i cali2 -j DROP", "-j DROP"]


def test_large_maps_are_trees() -> None:
    """Many interfaces are found by their characters; what a branch does not know goes on with the remaining rules."""
    entries: dict[str, ast.Verdict] = {f"cali{n}": ast.Goto("cali-x") for n in range(10, 30)}
    entries |= {"cali": ast.Accept(), "cali1": ast.Drop(), "cali3": ast.Drop()}
    found = forward(rule(ast.Dispatch("out", "m")), rule(ast.Drop()), maps={"m": entries})
    first, one, two, three, last = found["cali-FORWARD"]
    assert (first, three) == ("-o cali -j ACCEPT", "-o cali3 -j DROP")
    assert one.startswith("-o cali1+ -g cali-tree-")
    assert two.startswith("-o cali2+ -g cali-tree-")
    rest = last.removeprefix("-g ")
    assert found[rest] == ["-j DROP"]
    for line, count in ((one, 12), (two, 11)):
        branch = found[line.split()[-1]]
        assert branch[-1] == f"-g {rest}"
        assert len(branch) == count
    assert found[one.split()[-1]][0] == "-o cali1 -j DROP"


def test_trees_look_at_each_packet_a_few_times() -> None:
    """With a thousand interfaces no chain of the tree is longer than the characters that a name can go on with."""
    entries: dict[str, ast.Verdict] = {f"cali{n:011x}": ast.Goto("cali-x") for n in range(1000)}
    found = forward(rule(ast.Dispatch("in", "m")), rule(ast.Drop()), maps={"m": entries})
    assert max(len(rules) for rules in found.values()) <= 17


def test_dispatch_asks_its_own_interface_once() -> None:
    """A condition on the interface that a map is about anyway only selects among its entries."""
    entries: dict[str, ast.Verdict] = {"cali1": ast.Drop(), "eth0": ast.Drop()}
    found = forward(rule(ast.Interface("in", "cali*"), ast.Dispatch("in", "m")), maps={"m": entries})
    assert found["cali-FORWARD"] == ["-i cali1 -j DROP"]


def test_dispatch_under_conditions_goes_on() -> None:
    """With other matches or statements before it, a map stands in a chain that leads to the remaining rules."""
    found = forward(
        rule(ast.Protocol(6), ast.SetMark(ONE, ONE), ast.Dispatch("in", "m")),
        rule(ast.Accept()),
        maps={"m": {"cali1": ast.Drop()}},
    )
    guarded, last = found["cali-FORWARD"]
    rest = last.removeprefix("-g ")
    assert found[guarded.removeprefix("-p 6 -g ")] == [
        "-j MARK --set-xmark 0x10000/0x10000",
        "-i cali1 -j DROP",
        f"-g {rest}",
    ]
    assert found[rest] == ["-j ACCEPT"]


def test_exclusions_that_do_not_fit_go_on() -> None:
    """A second excluded interface leaves the rule's chain for the remaining rules, or returns when there are none."""
    excluded = [ast.Interface("in", name, negate=True) for name in ("a", "b")]
    found = forward(rule(*excluded, ast.Drop()))
    [line] = found["cali-FORWARD"]
    assert found[line.removeprefix("! -i a -g ")] == ["-i b -j RETURN", "-j DROP"]


@pytest.mark.parametrize(
    "rules",
    [
        [rule(ast.Jump("cali-nowhere"))],
        [rule(ast.Drop(), ast.Accept())],
        [rule(ast.Dispatch("in", "m"), ast.Drop())],
    ],
)
def test_contradictory_rulesets_are_errors(rules: list[ast.Rule]) -> None:
    """A call to nowhere, or something behind a verdict, is refused before anything is written."""
    with pytest.raises(ValueError, match=r"chain|verdict"):
        images({"filter-FORWARD": rules}, {"m": {"cali1": ast.Drop()}})


def test_rules_say_where_they_come_from() -> None:
    """Each rule carries its hash, and its provenance in words."""
    origin = Origin("NetworkPolicy", "default", "prod", "allow-web", "ingress", 3)
    [text] = images({"filter-FORWARD": [rule(ast.Drop(), origin=origin)]})["filter"].chains["cali-FORWARD"]
    assert re.fullmatch(
        r'-m comment --comment cali:[\w-]{16} -m comment --comment "NetworkPolicy prod/allow-web tier default ingress rule 3" -j DROP',
        text,
    )


def test_long_or_odd_chain_names_are_hashed() -> None:
    """A name the tools would refuse becomes a short one of our own, a different one for each."""
    assert chain_name("cali-pi-np/prod/web") == "cali-pi-np/prod/web"
    assert chain_name("x") == "cali-x"
    odd = {chain_name("cali-" + "a" * 24), chain_name("cali-" + "a" * 25), chain_name('cali-"')}
    assert len(odd) == 3
    assert all(len(name) <= 28 and name.startswith("cali-_") for name in odd)


def test_only_what_changed_is_compiled_anew() -> None:
    """After a change of chains and maps the images are those of a fresh start."""
    made = table(
        {
            "filter-FORWARD": [rule(ast.Dispatch("in", "m"))],
            "cali-x": [rule(ast.Jump("cali-y"))],
            "cali-y": [],
        },
        {"m": {"cali1": ast.Goto("cali-x")}},
    )
    compiler = Compiler(made)
    before = compiler.images()

    made.maps["m"]["cali2"] = ast.Goto("cali-y")
    compiler.forget((), ["m"])
    made.chains["cali-x"] = ast.Chain((rule(ast.Drop()),))
    compiler.forget(["cali-x"], ())

    assert compiler.images() == Compiler(made).images() != before


@pytest.mark.parametrize("family", [4, 6])
def test_golden_host(family: Family) -> None:
    """A host without endpoints, as iptables-restore gets it: the whole text, for people to read."""
    made = Renderer(Settings()).tables[family]
    made.maps[MAPS[0]] = {"cali1": ast.Goto("cali-fw-web"), "cali2": ast.Drop()}
    net = parse_cidr("10.0.0.0/8" if family == 4 else "fd00::/8")
    made.chains["cali-fw-web"] = ast.Chain(
        (
            rule(
                ast.Protocol(6),
                ast.Address("destination", net),
                ast.Ports("destination", ((80, 80), (8000, 8010))),
                ast.SetMark(ONE, ONE),
                ast.Return(),
                origin=Origin("GlobalNetworkPolicy", "default", "", "web", "egress", 0),
            ),
            rule(ast.Drop(), comment="End of tier default"),
        )
    )
    text = "".join(_restored(Compiler(made).images()))
    file = GOLDEN / f"host-ipv{family}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def _restored(found: Images) -> list[str]:
    tables: list[TableName] = ["filter", "mangle", "nat", "raw"]
    return [restore(name, edit, found[name]) for name in tables if (edit := difference(Image(), found[name]))]
