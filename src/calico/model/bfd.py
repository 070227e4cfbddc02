"""BFD: how fast hosts notice that a router, or the way to it, is dead.

The fields are those of Calico's commercial edition. A BGPPeer asks for BFD with
``failureDetectionMode: BFDIfDirectlyConnected``; this kind only says how fast it is.
"""

from __future__ import annotations

from typing import ClassVar, Final

from msgspec import field

from calico.model.errors import Finding, Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict, listed

LONGEST_PATTERN: Final = 15


class BFDInterface(Strict, frozen=True, kw_only=True):
    """BFD on the interfaces that a pattern matches: a name, the beginning of names as in ``eth*``, or ``*``.

    Durations as Go writes them ("300ms", "1m"); what is left out is 10 ms, 100 ms, 1 s and 5.
    """

    match_pattern: str = ""
    minimum_recv_interval: str | None = None
    minimum_send_interval: str | None = None
    idle_send_interval: str | None = None
    multiplier: int | None = None


class BFDConfigurationSpec(Strict, frozen=True, kw_only=True):
    """The nodes, and their interfaces; the first pattern that matches an interface counts."""

    node_selector: str = ""
    interfaces: list[BFDInterface] = []


class BFDConfiguration(Resource, frozen=True, kw_only=True, tag=True):
    """Settings of BFD for some nodes."""

    PLURAL: ClassVar[str] = "bfdconfigurations"
    SHORT: ClassVar[tuple[str, ...]] = ("bfdconfig", "bfdconfigs")
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("NODES", lambda r: r.spec.node_selector or "all()"),
        Column("INTERFACES", lambda r: listed(each.match_pattern for each in r.spec.interfaces)),
    )

    spec: BFDConfigurationSpec = field(default_factory=BFDConfigurationSpec)

    def problems(self) -> Findings:
        """Selector, patterns, durations and multipliers."""
        from calico.model import checks

        yield from checks.selector(("spec", "nodeSelector"), self.spec.node_selector)
        for index, interface in enumerate(self.spec.interfaces):
            path = ("spec", "interfaces", index)
            pattern = interface.match_pattern
            if not pattern or len(pattern) > LONGEST_PATTERN:
                yield Finding(
                    (*path, "matchPattern"),
                    f"{pattern!r} is no pattern for interfaces",
                    "write a name, one as in eth*, or *",
                )
            for name, text in (
                ("minimumRecvInterval", interface.minimum_recv_interval),
                ("minimumSendInterval", interface.minimum_send_interval),
                ("idleSendInterval", interface.idle_send_interval),
            ):
                yield from checks.duration((*path, name), text)
            yield from checks.within((*path, "multiplier"), interface.multiplier, 1, 255)
