"""What a node does in BGP, from all facts.

In:   ``Facts``.
Out:  ``Speaker``: the node's side of BGP as one frozen value, equal for equal facts.
Next: ``bgp.bird`` writes it down as BIRD's configuration.

What cannot be planned becomes a ``Problem``, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from calico.bgp import filters, services
from calico.bgp.cluster import Cluster, Member, Settings, checked
from calico.bgp.facts import Facts
from calico.bgp.sessions import Planned, plan_sessions
from calico.bgp.speaker import BGP_PORT, BfdInterface, PoolExport, Problem, Speaker
from calico.model import checks, selector
from calico.model.address import AddressError, parse_cidr
from calico.model.bfd import BFDConfiguration, BFDInterface
from calico.model.felix_values import seconds
from calico.model.node import Node
from calico.model.pool import IPPool

HASH: Final = "hash"
"""The word that asks for a router id made of the node's name."""
DEFAULT_BFD: Final = BfdInterface("*", receive=10, send=100, idle=1000, multiplier=5)
"""Where nothing is configured. An idle session is looked for every second, so that a link that is back is soon watched."""

_MAX_MILLISECONDS: Final = 4_294_967
"""BFD's fields hold 2**32 microseconds."""


def plan(node: str, facts: Facts) -> Speaker:
    """What ``node`` does in BGP.

    A node that is unknown or has no BGP part gets no sessions, which is said as a problem; its blocks and pools
    are still planned, so that its kernel keeps their routes. Never raises for what an operator wrote.
    """
    settings = Settings(facts.configurations)
    cluster = Cluster(facts.nodes, settings)
    own = cluster.members.get(node)
    priorities = (settings.priority(node, 4), settings.priority(node, 6))
    problems = [*settings.problems, *cluster.problems]
    planned = Planned((), ())
    if own is not None and own.addresses:
        planned = plan_sessions(own, cluster, settings, facts, problems)
    else:
        problems.extend(_no_sessions(node, facts.nodes, own))
    labels = facts.nodes[node].metadata.labels if node in facts.nodes else {}
    announced = services.announced(node, settings.default, facts, labels, problems)
    return Speaker(
        node=node,
        router_id=_router_id(node, own, facts.router_id, problems),
        local_as=own.as_number if own else settings.default_as,
        listen_port=own.port if own else BGP_PORT,
        addresses=own.addresses if own else (),
        sessions=planned.sessions,
        interfaces=planned.interfaces,
        pools=_pools(facts.pools, problems),
        blocks=tuple(sorted(facts.blocks)),
        reflector=bool(own and own.cluster_id),
        bind_address=settings.of(node, "bind_mode") == "NodeIP",
        ignored_interfaces=tuple(settings.of(node, "ignored_interfaces") or ()),
        filters=filters.read(
            (name for each in planned.sessions for name in each.filters), facts.filters, problems
        ),
        services=announced.routes,
        service_ranges=announced.ranges,
        advertisements=filters.advertisements(*settings.having(node, "prefix_advertisements"), problems),
        priorities=priorities,
        bfd=_bfd(labels, facts.bfd, problems) if any(each.bfd for each in planned.sessions) else (),
        problems=tuple(problems),
    )


def _no_sessions(node: str, nodes: Mapping[str, Node], own: Member | None) -> Iterator[Problem]:
    """Why a node has no sessions at all, unless that was said when its addresses were read."""
    if node not in nodes:
        reason = "does not exist, so there are no BGP sessions; create the Node"
    elif nodes[node].spec.bgp is None:
        reason = "has no spec.bgp, so there are no BGP sessions; give it an address there"
    elif own is not None:
        reason = "has no BGP address, so there are no BGP sessions; set ipv4Address or ipv6Address"
    else:
        return
    yield Problem(f"Node/{node}", reason)


def _router_id(node: str, own: Member | None, wanted: str, problems: list[Problem]) -> str:
    """What is wanted; else the node's IPv4 address; else a hash of its name that is a plausible unicast address."""
    if wanted and wanted != HASH:
        try:
            if int(IPv4Address(wanted)):
                return wanted
        except AddressValueError:
            pass
        problems.append(
            Problem(f"Node/{node}", f"the router id {wanted!r} is not used: write an IPv4 address, or {HASH}")
        )
    address = own.address(4) if own and wanted != HASH else None
    if address:
        return address.address
    digest = sha256(node.encode()).digest()
    return ".".join(map(str, (1 + digest[0] % 223, *digest[1:4])))


def _pools(pools: Mapping[str, IPPool], problems: list[Problem]) -> tuple[PoolExport, ...]:
    exports = []
    for name in sorted(pools):
        try:
            exports.append(
                PoolExport(parse_cidr(pools[name].spec.cidr), not pools[name].spec.disable_bgp_export)
            )
        except AddressError as error:
            problems.append(Problem(f"IPPool/{name}", f"is not announced: {error}"))
    return tuple(sorted(exports))


def _bfd(
    labels: Mapping[str, str], configurations: Mapping[str, BFDConfiguration], problems: list[Problem]
) -> tuple[BfdInterface, ...]:
    """The timing that some configuration gives to interfaces of a node with ``labels``, and the default's for others."""
    found = []
    for name in sorted(configurations):
        spec = configurations[name].spec
        try:
            if selector.parse(spec.node_selector).matches(labels):
                found.extend([_bfd_interface(interface) for interface in spec.interfaces])
        except ValueError as error:
            problems.append(Problem(f"BFDConfiguration/{name}", f"is not applied: {error}"))
    return (*found, DEFAULT_BFD)


def _bfd_interface(interface: BFDInterface) -> BfdInterface:
    return BfdInterface(
        interface.match_pattern or "*",
        _milliseconds("minimumRecvInterval", interface.minimum_recv_interval, DEFAULT_BFD.receive),
        _milliseconds("minimumSendInterval", interface.minimum_send_interval, DEFAULT_BFD.send),
        _milliseconds("idleSendInterval", interface.idle_send_interval, DEFAULT_BFD.idle),
        checked("multiplier", interface.multiplier or DEFAULT_BFD.multiplier, 1, 255),
    )


def _milliseconds(field: str, text: str | None, default: int) -> int:
    """The milliseconds of a duration such as "300ms" or "1m30s", at least 1."""
    if not text:
        return default
    for finding in checks.duration((field,), text):
        raise ValueError(f"{field}: {finding.message}; {finding.remedy}")
    return checked(field, round(min(1000 * seconds(text), _MAX_MILLISECONDS + 1)), 1, _MAX_MILLISECONDS)
