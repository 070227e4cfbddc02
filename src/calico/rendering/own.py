"""What a workload may say in its own name only: who asks for hardware addresses, and whose flows an error is about.

In:   the endpoint that has each workload interface, and its addresses.
Out:  chains of one interface each, and the maps that lead to them; and the whole table "arp".
Next: ``rendering.renderer`` says who has which interface; ``rendering.static`` and ``rendering.endpoint`` lead here.

Three things are no question of policy, and reverse-path protection does not see them:

* ARP: a sender that the host believes goes into its table of neighbours, which is small and shared by all workloads.
  Only an endpoint's own addresses, and 0.0.0.0, which leaves no trace, are heard. nftables only.
* Neighbour discovery: sources of a workload's own prefix are checked like those of any packet, but link-local
  addresses it makes up itself. So they are counted: a few at once, and then one now and again.
* ICMP errors: conntrack counts them to the flow that they quote, whoever sends them. They are the endpoint's own where
  the flow is; others are judged by policy like any packet that opens a flow.

Every interface is looked up; how many there are costs a packet nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from calico.desired import EndpointRow
from calico.model.address import Family, parse_cidr
from calico.model.settings import Settings
from calico.ruleset import ast, names
from calico.ruleset.diff import Draft

ARP_CHAIN: Final = "cali-arp-senders"
ARP_MAP: Final = "cali-arp-dispatch"
ERRORS_CHAIN: Final = "cali-own-errors"
ERRORS_MAP: Final = "cali-own-errors-dispatch"
NEIGHBOURS_CHAIN: Final = "cali-neighbours"
NEIGHBOURS_MAP: Final = "cali-neighbours-dispatch"
LINK_LOCAL: Final = parse_cidr("fe80::/10")
_NOBODY: Final = parse_cidr("0.0.0.0/32")

LIMIT: Final = ast.Limit(rate=2, burst=10)
"""Solicitations from link-local addresses, of one workload.

It has one router to look for. The kernel keeps what it learned at least five seconds, and at most 1,024 neighbours
unless told otherwise: a workload fills a fiftieth of them.
"""


class Own:
    """The chains of each workload interface; ``drafts`` are the tables of both families."""

    def __init__(self, drafts: Mapping[Family, Draft], settings: Settings) -> None:
        self._drafts = drafts
        self._accept = settings.accept_mark
        self.arp = Draft("arp")
        self.arp.put_map(ARP_MAP)
        for name, chain in _arp_chains(settings.interface_prefix).items():
            self.arp.put_chain(name, chain)
        for family, draft in drafts.items():
            draft.put_map(ERRORS_MAP)
            draft.put_chain(ERRORS_CHAIN, ast.Chain((ast.Rule((), (ast.Dispatch("in", ERRORS_MAP),)),)))
            if family == 6:
                draft.put_map(NEIGHBOURS_MAP)
                draft.put_chain(NEIGHBOURS_CHAIN, _neighbours())

    def put(self, interface: str, row: EndpointRow | None, families: Iterable[Family]) -> None:
        """The endpoint that has an interface, in the families in which it has a network; None: nobody has it."""
        if row is not None and not row.active:
            row = None
        if 4 in families:
            _put(self.arp, ARP_MAP, "arp", interface, None if row is None else _senders(row))
        for family in families:
            draft = self._drafts[family]
            _put(draft, ERRORS_MAP, "err", interface, None if row is None else self._errors(row, family))
            if family == 6:
                _put(draft, NEIGHBOURS_MAP, "nd", interface, None if row is None else _limited())

    def _errors(self, row: EndpointRow, family: Family) -> ast.Chain:
        directions: tuple[Literal["original", "reply"], ...] = ("original", "reply")
        return ast.Chain(
            tuple(
                ast.Rule(
                    (ast.CtSource(direction, net),), (ast.SetMark(self._accept, self._accept), ast.Accept())
                )
                for net in row.addresses
                if net.family == family
                for direction in directions
            )
        )


def _put(
    draft: Draft, entries: str, kind: names.OwnChainKind, interface: str, chain: ast.Chain | None
) -> None:
    name = names.own_chain(kind, interface)
    draft.put_chain(name, chain)
    draft.put_entry(entries, interface, None if chain is None else ast.Goto(name))


def _arp_chains(prefixes: Iterable[str]) -> dict[str, ast.Chain]:
    nobodys = ast.Rule(
        (), (ast.Drop(),), comment="ARP from a workload interface without endpoint", counted=True
    )
    return {
        "filter-INPUT": ast.Chain(
            tuple(
                ast.Rule((ast.Interface("in", f"{prefix}*"),), (ast.Jump(ARP_CHAIN),)) for prefix in prefixes
            ),
            hook=ast.Hook("filter", "input"),
        ),
        ARP_CHAIN: ast.Chain(
            (
                ast.Rule(
                    (ast.Address("source", _NOBODY),), (ast.Return(),), comment="An address is tried out"
                ),
                ast.Rule((), (ast.Dispatch("in", ARP_MAP),)),
                nobodys,
            )
        ),
    }


def _senders(row: EndpointRow) -> ast.Chain:
    own = [
        ast.Rule((ast.Address("source", net),), (ast.Return(),)) for net in row.addresses if net.family == 4
    ]
    false = ast.Rule((), (ast.Drop(),), comment="ARP in the name of others", counted=True)
    return ast.Chain((*own, false))


def _neighbours() -> ast.Chain:
    nobodys = ast.Rule((), (ast.Drop(),), comment="Workload interface without endpoint", counted=True)
    return ast.Chain((ast.Rule((), (ast.Dispatch("in", NEIGHBOURS_MAP),)), nobodys))


def _limited() -> ast.Chain:
    too_many = ast.Rule((), (ast.Drop(),), comment="Too many link-local neighbours", counted=True)
    return ast.Chain((ast.Rule((LIMIT,), (ast.Return(),)), too_many))
