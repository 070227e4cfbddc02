"""The packet's way through the host: the chains that depend on settings only.

In:   ``Settings`` and the family.
Out:  base chains and what they jump to, with the dispatch to endpoints by interface; and the failsafe chains.
Next: ``rendering.renderer`` adds endpoints, policies and sets.

Order of a packet (behaviour reference 4.4): raw PREROUTING clears our marks and drops false sources; filter
INPUT, FORWARD and OUTPUT dispatch by interface. FORWARD accepts nothing: a packet that both ends allow falls off
its end with the accept mark, and other software still sees it; the last base chain accepts the marked ones where
the host's own rules would otherwise drop them. Policy before destination NAT, untracked policy and policy on
forwarded traffic of host endpoints will hang in raw, mangle and FORWARD beside what is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from calico.model.address import Family, parse_address
from calico.model.settings import FailsafePort, Settings
from calico.rendering.own import LINK_LOCAL, NEIGHBOURS_CHAIN
from calico.rendering.policy import ICMP, deny
from calico.ruleset import ast

Way = Literal["in", "out"]

FROM_WORKLOADS: Final = "cali-from-wl"
TO_WORKLOADS: Final = "cali-to-wl"
FROM_HOST_ENDPOINTS: Final = "cali-from-hep"
TO_HOST_ENDPOINTS: Final = "cali-to-hep"
MAPS: Final = (FROM_WORKLOADS, TO_WORKLOADS, FROM_HOST_ENDPOINTS, TO_HOST_ENDPOINTS)
"""Verdict maps by interface."""

FROM_HOST_CHAIN: Final = "cali-from-host-endpoint"
TO_HOST_CHAIN: Final = "cali-to-host-endpoint"
LOOPBACK: Final = "lo"

_ROUTER_SOLICITATION, _ROUTER_ADVERTISEMENT, _NEIGHBOUR_SOLICITATION = 133, 134, 135
_ROUTERS_ONLY: Final[dict[Family, tuple[int, ...]]] = {4: (5,), 6: (_ROUTER_ADVERTISEMENT, 137)}
"""Router advertisements and redirects. An IPv4 redirect counts as related to the flow that it names, whoever sends it."""
_LISTENER_REPORT_2: Final = 143
_TO_HOST_ICMPV6: Final = (130, 131, 132, 133, 135, 136)
"""What IPv6 needs between a workload and its host: listener queries and reports, solicitations, advertisement of neighbours."""


def static_chains(family: Family, settings: Settings) -> dict[str, ast.Chain]:
    """All chains that no endpoint changes."""
    chains = {
        "raw-PREROUTING": ast.Chain(tuple(_prerouting(settings)), hook=ast.Hook("raw", "prerouting")),
        "cali-rpf": ast.Chain(tuple(_reverse_path(family))),
        "filter-INPUT": ast.Chain(tuple(_input(settings)), hook=ast.Hook("filter", "input")),
        "cali-wl-to-host": ast.Chain(tuple(_workload_to_host(family, settings))),
        "filter-FORWARD": ast.Chain(tuple(_forward(settings)), hook=ast.Hook("filter", "forward")),
        "filter-FORWARD-accept": ast.Chain(
            (ast.Rule((_accepted(settings),), (ast.Accept(),), comment="Allowed by policy"),),
            hook=ast.Hook("filter", "forward", append=True),
        ),
        "filter-OUTPUT": ast.Chain(tuple(_output(settings)), hook=ast.Hook("filter", "output")),
        "cali-failsafe-in": ast.Chain(tuple(_failsafe(settings.failsafe_inbound, "source", family))),
        "cali-failsafe-out": ast.Chain(tuple(_failsafe(settings.failsafe_outbound, "destination", family))),
        FROM_HOST_CHAIN: host_dispatch("in", None),
        TO_HOST_CHAIN: host_dispatch("out", None),
    }
    unknown = ast.Rule((), (deny(settings),), comment="Workload interface without endpoint", counted=True)
    for chain, dispatch in (
        ("cali-from-wl-dispatch", ast.Dispatch("in", FROM_WORKLOADS)),
        ("cali-to-wl-dispatch", ast.Dispatch("out", TO_WORKLOADS)),
    ):
        chains[chain] = ast.Chain((ast.Rule((), (dispatch,)), unknown))
    return chains


def host_dispatch(way: Way, others: ast.Verdict | None) -> ast.Chain:
    """The chain of host endpoints; ``others`` is for interfaces that have no endpoint of their own.

    The host's own loopback is nobody's door: only an endpoint that names it is asked about it.
    """
    entries = FROM_HOST_ENDPOINTS if way == "in" else TO_HOST_ENDPOINTS
    rules = [ast.Rule((), (ast.Dispatch(way, entries),))]
    if others is not None:
        rules += [
            ast.Rule((ast.Interface(way, LOOPBACK),), (ast.Return(),)),
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
    yield ast.Rule((), (ast.Jump(FROM_HOST_CHAIN),))
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
    for workload in _workloads("in", settings):
        # The IPv4 gateway has a route out of the loopback interface, only so that it is answered for.
        yield ast.Rule(
            (workload, ast.Interface("out", LOOPBACK)),
            (ast.Drop(),),
            comment="The gateway's address leads nowhere",
        )
    for workload in _workloads("in", settings):
        yield ast.Rule((workload,), (ast.Jump("cali-from-wl-dispatch"),))
    for workload in _workloads("out", settings):
        yield ast.Rule((workload,), (ast.Jump("cali-to-wl-dispatch"),))


def _output(settings: Settings) -> Iterator[ast.Rule]:
    for workload in _workloads("out", settings):
        yield ast.Rule((workload,), (ast.Return(),), comment="The host reaches its workloads")
    yield ast.Rule((), (ast.SetMark(0, settings.mark_mask),), comment="Nobody brings marks of ours along")
    yield ast.Rule((), (ast.Jump(TO_HOST_CHAIN),))
    yield ast.Rule((_accepted(settings),), (ast.Accept(),))


def _failsafe(ports: Iterable[FailsafePort], far_side: ast.End, family: Family) -> Iterator[ast.Rule]:
    for protocol, port, net in ports:
        matches: tuple[ast.Match, ...] = (
            ast.Protocol(protocol),
            ast.Ports("destination", ((port, port),)),
        )
        if net is not None:
            if net.family != family:
                continue
            if net.length:
                matches = (*matches, ast.Address(far_side, net))
        yield ast.Rule(matches, (ast.Accept(),), comment="Failsafe port")
