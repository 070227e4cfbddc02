"""Resources as text: tables with stable columns, YAML, JSON.

In:   resources.
Out:  text; nothing is printed here.
Next: ``cli.get`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from calico.model.resource import API_VERSION, Resource

Cell = Callable[[Any], str]

LONGEST: Final = 80
"""How many characters of a network set a table shows; YAML and JSON show all."""


class Column(NamedTuple):
    """A heading, and what stands below it."""

    heading: str
    cell: Cell
    wide: bool = False
    """Only with ``-o wide``."""


def _list(values: Sequence[Any]) -> str:
    return ",".join(str(value) for value in values)


def _short(text: str) -> str:
    """At most ``LONGEST`` characters of ``text``, with dots where some were left out."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _text(value: Any) -> str:
    """As calicoctl prints values: true and false, numbers without a needless fraction, nothing for what is unset."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


_NAME = Column("NAME", lambda r: r.metadata.name)
_POLICY = (
    _NAME,
    Column("TIER", lambda r: r.spec.tier),
    Column("ORDER", lambda r: _text(r.spec.order), wide=True),
    Column("SELECTOR", lambda r: r.spec.selector or "all()", wide=True),
)
_NETS = (_NAME, Column("NETS", lambda r: _short(_list(r.spec.nets))))

COLUMNS: Final[dict[str, tuple[Column, ...]]] = {
    "BGPConfiguration": (
        _NAME,
        Column("LOGSEVERITY", lambda r: r.spec.log_severity_screen),
        Column("MESHENABLED", lambda r: _text(r.spec.node_to_node_mesh_enabled)),
        Column("ASNUMBER", lambda r: _text(r.spec.as_number)),
    ),
    "BGPPeer": (
        _NAME,
        Column("PEERIP", lambda r: r.spec.peer_ip or r.spec.peer_selector),
        Column("NODE", lambda r: r.spec.node or r.spec.node_selector or "(global)"),
        Column("ASN", lambda r: _text(r.spec.as_number)),
    ),
    "GlobalNetworkPolicy": _POLICY,
    "NetworkPolicy": _POLICY,
    "GlobalNetworkSet": _NETS,
    "NetworkSet": _NETS,
    "HostEndpoint": (
        _NAME,
        Column("NODE", lambda r: r.spec.node),
        Column("INTERFACE", lambda r: r.spec.interface_name, wide=True),
        Column("IPS", lambda r: _list(r.spec.expected_ips), wide=True),
        Column("PROFILES", lambda r: _list(r.spec.profiles), wide=True),
    ),
    "IPPool": (
        _NAME,
        Column("CIDR", lambda r: r.spec.cidr),
        Column("NAT", lambda r: _text(r.spec.nat_outgoing), wide=True),
        Column("IPIPMODE", lambda r: r.spec.ipip_mode or "Never", wide=True),
        Column("VXLANMODE", lambda r: r.spec.vxlan_mode or "Never", wide=True),
        Column("DISABLED", lambda r: _text(r.spec.disabled), wide=True),
        Column("DISABLEBGPEXPORT", lambda r: _text(r.spec.disable_bgp_export), wide=True),
        Column("SELECTOR", lambda r: r.spec.node_selector or "all()"),
        Column("ASSIGNMENTMODE", lambda r: r.spec.assignment_mode or "Automatic", wide=True),
    ),
    "Node": (
        _NAME,
        Column("ASN", lambda r: _text(r.spec.bgp.as_number) if r.spec.bgp else "", wide=True),
        Column("IPV4", lambda r: r.spec.bgp.ipv4_address if r.spec.bgp else "", wide=True),
        Column("IPV6", lambda r: r.spec.bgp.ipv6_address if r.spec.bgp else "", wide=True),
    ),
    "Profile": (
        _NAME,
        Column(
            "LABELS",
            lambda r: ",".join(f"{k}={v}" for k, v in sorted(r.spec.labels_to_apply.items())),
            wide=True,
        ),
    ),
    "Tier": (_NAME, Column("ORDER", lambda r: _text(r.spec.order))),
    "WorkloadEndpoint": (
        Column("NAME", lambda r: r.metadata.name, wide=True),
        Column("WORKLOAD", lambda r: r.spec.workload or r.spec.pod or r.metadata.name),
        Column("NODE", lambda r: r.spec.node),
        Column("NETWORKS", lambda r: _list(r.spec.ip_networks)),
        Column("INTERFACE", lambda r: r.spec.interface_name),
        Column("PROFILES", lambda r: _list(r.spec.profiles), wide=True),
        Column("NATS", lambda r: _list([nat.external_ip for nat in r.spec.ip_nats]), wide=True),
    ),
}
"""Columns by kind (behaviour reference 8.3). A kind that is not here shows its name."""

_NAMESPACE = Column("NAMESPACE", lambda r: r.metadata.namespace or "")


def table(resources: Sequence[Resource], kind: type[Resource], *, wide: bool, namespaces: bool) -> str:
    """The resources of one kind as an aligned table, headings included, their namespaces first if asked for."""
    columns = [column for column in COLUMNS.get(kind.__name__, (_NAME,)) if wide or not column.wide]
    if namespaces and kind.NAMESPACED:
        columns.insert(0, _NAMESPACE)
    rows = [[column.heading for column in columns]]
    rows += [[_line(column.cell(resource)) for column in columns] for resource in resources]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as columns, three blanks apart, no trailing blanks."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _line(cell: str) -> str:
    """A cell on one line and harmless to a terminal, whatever was stored."""
    return cell if cell.isprintable() else "".join(c if c.isprintable() else " " for c in cell)


def document(resources: Sequence[Resource], kind: type[Resource] | None) -> dict[str, Any]:
    """What YAML and JSON show, as plain values that can be applied again.

    All of a ``kind`` are always a list, however many there are; of those that were asked for by name (kind
    None) one stands by itself, and several are a ``List``.
    """
    from calico.model.codec import to_builtins

    trees = [to_builtins(resource) for resource in resources]
    if kind is None and len(trees) == 1:
        return trees[0]
    name = f"{kind.__name__}List" if kind else "List"
    return {"apiVersion": API_VERSION, "kind": name, "items": trees}


def yaml_text(tree: dict[str, Any]) -> str:
    """``tree`` as a YAML document."""
    from calico.model.yaml_text import dump

    return dump([tree])


def json_text(tree: dict[str, Any]) -> str:
    """``tree`` as indented JSON."""
    import json

    return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
