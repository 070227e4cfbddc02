from __future__ import annotations

from collections.abc import Callable

import pytest

from calico.desired import PortMember
from calico.model.address import parse_address, parse_cidr
from calico.programming import libnftables
from calico.programming.backend import Busy, Missing, Rejected
from calico.programming.nft import Nftables
from calico.ruleset import ast, nft


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Error: Could not process rule: No such file or directory", Rejected),
        ("Error: Could not process rule: Device or resource busy", Rejected),
        ("", Rejected),
        ("netlink: Error: cache initialization failed: Resource temporarily unavailable", Busy),
        ("Error: Could not process rule: Operation not permitted", Missing),
        ("Error: Could not process rule: Operation not supported", Missing),
        ("netlink: sendmsg: Message too long", libnftables.TooBig),
        ("netlink: No buffer space available", libnftables.TooBig),
    ],
)
def test_what_nft_says_decides_what_to_do(said: str, kind: type[Exception]) -> None:
    """Only what may succeed later is Busy, only what the machine lacks is Missing; the sentence quotes nft."""
    problem = libnftables.problem(said, "add table ip calico\n")
    assert type(problem) is kind
    assert said.strip() in str(problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: libnftables.Library("libnothing.so.7"),
        lambda: libnftables.Program("/nonexistent/nft").run("add table ip calico"),
    ],
)
def test_what_is_not_installed_is_named(make: Callable[[], object]) -> None:
    """Without the library or the program the error says which package brings it."""
    with pytest.raises(Missing, match="install the package"):
        make()


class Recorder:
    """A kernel that takes everything, or refuses."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refuse = False

    def run(self, text: str) -> None:
        if self.refuse:
            raise Rejected("no")
        self.texts.append(text)

    def list_table(self, family: str, table: str) -> None:
        return None


def test_a_change_of_something_unknown_asks_for_a_sync() -> None:
    """After a failure, or without a start, a change that builds on what is not there is refused before the kernel."""
    backend = Nftables(Recorder())
    change = ast.Change(4, members={"cali40x-a": ast.MemberChange(frozenset({parse_address("10.0.0.1")}))})
    with pytest.raises(Rejected, match="sync first"):
        backend.apply([change])


def test_a_transaction_declares_before_it_refers_and_deletes_last() -> None:
    """Sets, maps and chains come first, then elements, rules and entries; what goes is emptied first, deleted last."""
    known = nft.Held(
        types={"old-p": "port", "net-n": "net"},
        covers={"net-n": nft.Cover([parse_cidr("10.0.0.0/8")])},
        keys={"m": {"a", "b"}},
    )
    change = ast.Change(
        4,
        chains={
            "new": ast.Chain((ast.Rule((), (ast.Jump("other"),)),)),
            "other": ast.Chain(()),
            "gone": None,
            "filter-FORWARD-accept": ast.Chain((), ast.Hook("filter", "forward", append=True)),
        },
        sets={"old-p": None, "new-p": ast.Set("port", "who")},
        members={
            "new-p": ast.MemberChange(frozenset({PortMember(parse_address("10.0.0.1"), 6, 80)})),
            "net-n": ast.MemberChange(
                frozenset({parse_cidr("10.1.0.0/16")}), frozenset({parse_cidr("10.0.0.0/8")})
            ),
        },
        maps={"m": {"a": ast.Goto("new"), "b": None, "c": ast.Drop()}},
    )
    assert nft.transaction(change, known).text() == TEXT
    assert known.keys == {"m": {"a", "c"}}
    assert known.types == {"net-n": "net", "new-p": "port"}


TEXT = """\
add table ip calico
table ip calico {
	set new-p {
		type ipv4_addr . inet_proto . inet_service
		comment "who"
	}
	chain new { }
	chain other { }
}
flush chain ip calico new
flush chain ip calico other
flush chain ip calico gone
delete element ip calico m { "a", "b" }
delete element ip calico net-n { 10.0.0.0/8 }
add element ip calico new-p { 10.0.0.1 . 6 . 80 }
add element ip calico net-n { 10.1.0.0/16 }
table ip calico {
	chain new {
		jump other
	}
}
add element ip calico m { "a" : goto new, "c" : drop }
delete chain ip calico gone
delete set ip calico old-p
"""
