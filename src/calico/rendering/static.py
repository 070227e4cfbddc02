"""The packet's way through the host: the chains that depend on settings only.

In:   ``Settings`` and the family.
Out:  base chains and what they jump to, with the dispatch to endpoints by interface; and the failsafe chains.
Next: ``rendering.renderer`` adds endpoints, policies and sets.

Order of a packet (behaviour reference 4.4): raw PREROUTING and OUTPUT clear our marks, drop false sources and ask
untracked policy; mangle PREROUTING asks policy before destination NAT; filter INPUT, FORWARD and OUTPUT dispatch by
interface; mangle POSTROUTING judges what the host sends to a translated destination, since only there its
interface is known. FORWARD accepts nothing: a packet that both ends allow falls off its end with the accept mark, and
other software still sees it; the last base chain accepts the marked ones where the host's own rules would otherwise
drop them. What untracked or pre-DNAT policy accepted keeps the mark, and host policy asks no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from calico.model.address import Family, parse_address
from calico.model.settings import FailsafePort, Settings
from calico.rendering.own import LINK_LOCAL, NEIGHBOURS_CHAIN
from calico.rendering.policy import ICMP, deny
from calico.ruleset import ast, names

Way = Literal["in", "out"]

FROM_WORKLOADS: Final = "cali-from-wl"
TO_WORKLOADS: Final = "cali-to-wl"


class Door(NamedTuple):
    """Where packets meet one kind of chains of host endpoints: the verdict map by interface, and the chain that looks it up."""

    kind: names.EndpointChainKind
    way: Way
    map: str
    chain: str


FROM_HOST: Final = Door("fh", "in", "cali-from-hep", "cali-from-host-endpoint")
TO_HOST: Final = Door("th", "out", "cali-to-hep", "cali-to-host-endpoint")
TO_TRANSLATED: Final = Door("thnat", "out", "cali-to-hep-nat", "cali-to-hep-translated")
FROM_FORWARD: Final = Door("fhfw", "in", "cali-from-hep-fw", "cali-from-hep-forward")
TO_FORWARD: Final = Door("thfw", "out", "cali-to-hep-fw", "cali-to-hep-forward")
FROM_PRE_DNAT: Final = Door("fhpd", "in", "cali-from-hep-pd", "cali-from-hep-pre-dnat")
FROM_UNTRACKED: Final = Door("fhut", "in", "cali-from-hep-ut", "cali-from-hep-untracked")
TO_UNTRACKED: Final = Door("thut", "out", "cali-to-hep-ut", "cali-to-hep-untracked")
DOORS: Final = (
    FROM_HOST,
    TO_HOST,
    TO_TRANSLATED,
    FROM_FORWARD,
    TO_FORWARD,
    FROM_PRE_DNAT,
    FROM_UNTRACKED,
    TO_UNTRACKED,
)
MAPS: Final = (FROM_WORKLOADS, TO_WORKLOADS, *(door.map for door in DOORS))
"""Verdict maps by interface."""

LOOPBACK: Final = "lo"

_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _NEIGHBOUR_SOLICITATION = 133, 134, 135
_ROUTERS_ONLY: Final[dict[Family, tuple[int, ...]]] = {4: (5,), 6: (_ROUTER_ADVERTISEMENT, 137)}
"""Router advertisements and redirects. An IPv4 redirect counts as related to the flow that it names, whoever sends it."""
_LISTENER_REPORT_2: Final = 143
_TO_HOST_ICMPV6: Final = (130, 131, 132, 133, 135, 136)
"""What IPv6 needs between a workload and its host: listener queries and reports, solicitations, advertisement of neighbours."""

_HOST_ICMPV6: Final = tuple(sorted({*_TO_HOST_ICMPV6, _ROUTER_ADVERTISEMENT, _LISTENER_REPORT_2}))
"""And what it needs between a host and its routers."""


def static_chains(family: Family, settings: Settings) -> dict[str, ast.Chain]:
    """All chains that no endpoint changes."""
    chains = {
        "raw-PREROUTING": ast.Chain(tuple(_prerouting(settings)), hook=ast.Hook("raw", "prerouting")),
        "raw-OUTPUT": ast.Chain(tuple(_raw_output(settings)), hook=ast.Hook("raw", "output")),
        "cali-rpf": ast.Chain(tuple(_reverse_path(family))),
        "filter-INPUT": ast.Chain(tuple(_input(settings)), hook=ast.Hook("filter", "input")),
        "cali-wl-to-host": ast.Chain(tuple(_workload_to_host(family, settings))),
        "filter-FORWARD": ast.Chain(tuple(_forward(settings)), hook=ast.Hook("filter", "forward")),
        "filter-FORWARD-accept": ast.Chain(
            (ast.Rule((_accepted(settings),), (ast.Accept(),), comment="Allowed by policy"),),
            hook=ast.Hook("filter", "forward", append=True),
        ),
        "filter-OUTPUT": ast.Chain(tuple(_output(settings)), hook=ast.Hook("filter", "output")),
    }
    chains |= _failsafe_chains(family, settings)
    chains |= {door.chain: host_dispatch(door, None) for door in DOORS}
    unknown = ast.Rule((), (deny(settings),), comment="Workload interface without endpoint", counted=True)
    for chain, dispatch in (
        ("cali-from-wl-dispatch", ast.Dispatch("in", FROM_WORKLOADS)),
        ("cali-to-wl-dispatch", ast.Dispatch("out", TO_WORKLOADS)),
    ):
        chains[chain] = ast.Chain((ast.Rule((), (dispatch,)), unknown))
    return chains


def on_demand(settings: Settings) -> dict[str, tuple[Door, ast.Chain]]:
    """Base chains that are there only while their door leads somewhere: each costs every packet on its way."""
    accepted = _accepted(settings)
    before_dnat = (
        ast.Rule((ast.CtState(("established", "related")),), (ast.Return(),), comment="Known flows"),
        ast.Rule((accepted,), (ast.Return(),)),
        ast.Rule((), (ast.Jump(FROM_PRE_DNAT.chain),)),
    )
    translated = (
        *_to_workloads(settings),
        ast.Rule(
            (ast.Mark(0, settings.forwarded_mark), ast.CtState(("new",)), ast.CtDnat()),
            (ast.Jump(TO_TRANSLATED.chain),),
        ),
    )
    return {
        "mangle-PREROUTING": (
            FROM_PRE_DNAT,
            ast.Chain(before_dnat, hook=ast.Hook("mangle", "prerouting")),
        ),
        "mangle-POSTROUTING": (
            TO_TRANSLATED,
            ast.Chain(translated, hook=ast.Hook("mangle", "postrouting")),
        ),
    }


def host_dispatch(door: Door, others: ast.Verdict | None) -> ast.Chain:
    """The chain of host endpoints; ``others`` is for interfaces that have no endpoint of their own.

    The host's own loopback is nobody's door: only an endpoint that names it is asked about it.
    """
    rules = [ast.Rule((), (ast.Dispatch(door.way, door.map),))]
    if others is not None:
        rules += [
            ast.Rule((ast.Interface(door.way, LOOPBACK),), (ast.Return(),)),
            ast.Rule((), (others,)),
        ]
    return ast.Chain(tuple(rules))


def is_workload(interface: str, settings: Settings) -> bool:
    """Whether an interface of that name is a workload's."""
    return interface.startswith(settings.interface_prefix)


def _workloads(direction: Way, settings: Settings) -> Iterator[ast.Interface]:
    return (ast.Interface(direction, f"{prefix}*") for prefix in settings.interface_prefix)


def _accepted(settings: Settings) -> ast.Mark:
    return ast.Mark(settings.accept_mark, settings.accept_mark)


def _prerouting(settings: Settings) -> Iterator[ast.Rule]:
    yield ast.Rule((), (ast.SetMark(0, settings.mark_mask),), comment="Nobody brings marks of ours along")
    for workload in _workloads("in", settings):
        yield ast.Rule((workload,), (ast.Jump("cali-rpf"),))
    yield ast.Rule((), (ast.Jump(FROM_UNTRACKED.chain),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),))


def _raw_output(settings: Settings) -> Iterator[ast.Rule]:
    yield ast.Rule((), (ast.SetMark(0, settings.mark_mask),), comment="Nobody brings marks of ours along")
    yield ast.Rule((), (ast.Jump(TO_UNTRACKED.chain),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),))


def _reverse_path(family: Family) -> Iterator[ast.Rule]:
    for kind in _ROUTERS_ONLY[family]:
        yield ast.Rule(
            (ast.Protocol(ICMP[family]), ast.Icmp(kind)),
            (ast.Drop(),),
            comment="Workloads are no routers",
            counted=True,
        )
    if family == 6:
        # An address is tried out, and its listeners are reported, before it can be a source.
        for kind in (_NEIGHBOUR_SOLICITATION, _ROUTER_SOLICITATION, _LISTENER_REPORT_2):
            yield ast.Rule(
                (
                    ast.Protocol(ICMP[6]),
                    ast.Icmp(kind),
                    ast.Address("source", parse_address("::")),
                ),
                (ast.Return(),),
            )
    yield ast.Rule((ast.ReversePathFails(),), (ast.Drop(),), comment="False source address", counted=True)


def _input(settings: Settings) -> Iterator[ast.Rule]:
    for workload in _workloads("in", settings):
        yield ast.Rule((workload,), (ast.Goto("cali-wl-to-host"),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),), comment="By untracked or pre-DNAT policy")
    yield ast.Rule((), (ast.Jump(FROM_HOST.chain),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),))


def _workload_to_host(family: Family, settings: Settings) -> Iterator[ast.Rule]:
    if family == 6:
        for kind in (_ROUTER_SOLICITATION, _NEIGHBOUR_SOLICITATION):
            # These make neighbours of whoever sends them.
            yield ast.Rule(
                (ast.Protocol(ICMP[6]), ast.Icmp(kind), ast.Address("source", LINK_LOCAL)),
                (ast.Jump(NEIGHBOURS_CHAIN),),
            )
        for kind in _TO_HOST_ICMPV6:
            yield ast.Rule((ast.Protocol(ICMP[6]), ast.Icmp(kind)), (ast.Accept(),))
    yield ast.Rule((), (ast.Jump("cali-from-wl-dispatch"),))
    match settings.default_endpoint_to_host_action:
        case "Drop":
            yield ast.Rule(
                (), (deny(settings),), comment="Workload to its host: not allowed by default", counted=True
            )
        case "Accept":
            yield ast.Rule((), (ast.Accept(),))
        case "Return":
            pass


def _forward(settings: Settings) -> Iterator[ast.Rule]:
    yield ast.Rule((), (ast.SetMark(settings.forwarded_mark, settings.forwarded_mark),))
    for workload in _workloads("in", settings):
        # The IPv4 gateway has a route out of the loopback interface, only so that it is answered for.
        yield ast.Rule(
            (workload, ast.Interface("out", LOOPBACK)),
            (ast.Drop(),),
            comment="The gateway's address leads nowhere",
        )
    yield ast.Rule(
        (ast.Mark(0, settings.accept_mark),), (ast.Jump(FROM_FORWARD.chain),), comment="Not accepted before"
    )
    for workload in _workloads("in", settings):
        yield ast.Rule((workload,), (ast.Jump("cali-from-wl-dispatch"),))
    for workload in _workloads("out", settings):
        yield ast.Rule((workload,), (ast.Jump("cali-to-wl-dispatch"),))
    yield ast.Rule((), (ast.Jump(TO_FORWARD.chain),))


def _output(settings: Settings) -> Iterator[ast.Rule]:
    yield ast.Rule((_accepted(settings),), (ast.Accept(),), comment="By untracked policy")
    yield from _to_workloads(settings)
    yield ast.Rule((ast.CtDnat(),), (ast.Return(),), comment="Judged in mangle POSTROUTING")
    yield ast.Rule((), (ast.Jump(TO_HOST.chain),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),))


def _to_workloads(settings: Settings) -> Iterator[ast.Rule]:
    for workload in _workloads("out", settings):
        yield ast.Rule((workload,), (ast.Return(),), comment="The host reaches its workloads")


def _failsafe_chains(family: Family, settings: Settings) -> Iterator[tuple[str, ast.Chain]]:
    """What host policy never closes, for an operator has to get in to mend it; IPv6's neighbours are part of the way.

    Before connection tracking an answer is known by the port that it comes from.
    """
    inbound, outbound = settings.failsafe_inbound, settings.failsafe_outbound
    neighbours = tuple(
        ast.Rule((ast.Protocol(ICMP[6]), ast.Icmp(kind)), (ast.Accept(),), comment="Neighbours")
        for kind in (_HOST_ICMPV6 if family == 6 else ())
    )
    yield (
        "cali-failsafe-in",
        ast.Chain((*_failsafe(inbound, "destination", "source", family), *neighbours)),
    )
    yield (
        "cali-failsafe-out",
        ast.Chain((*_failsafe(outbound, "destination", "destination", family), *neighbours)),
    )
    for chain, answers in (
        ("cali-failsafe-in", _failsafe(outbound, "source", "source", family)),
        ("cali-failsafe-out", _failsafe(inbound, "source", "destination", family)),
    ):
        yield f"{chain}-raw", ast.Chain((ast.Rule((), (ast.Jump(chain),)), *answers))


def _failsafe(
    ports: Iterable[FailsafePort], end: ast.End, far_side: ast.End, family: Family
) -> Iterator[ast.Rule]:
    for protocol, port, net in ports:
        matches: tuple[ast.Match, ...] = (
            ast.Protocol(protocol),
            ast.Ports(end, ((port, port),)),
        )
        if net is not None:
            if net.family != family:
                continue
            if net.length:
                matches = (*matches, ast.Address(far_side, net))
        yield ast.Rule(matches, (ast.Accept(),), comment="Failsafe port")
