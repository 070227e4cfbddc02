"""BGP filters: which routes are announced to peers, and taken from them (behaviour reference 1.13)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import field

from calico.model.errors import Findings
from calico.model.resource import NAME_COLUMN, Column, Resource, Strict


class PrefixLengths(Strict, frozen=True, kw_only=True):
    """Lengths of prefixes, both ends included."""

    min: int | None = None
    max: int | None = None


class CommunityMatch(Strict, frozen=True, kw_only=True):
    """The community that a route carries."""

    values: list[str] = []


class AddCommunity(Strict, frozen=True, kw_only=True):
    """Give a route one more community."""

    value: str


class PrependASPath(Strict, frozen=True, kw_only=True):
    """Put AS numbers before the route's path."""

    prefix: list[int | str]


class SetPriority(Strict, frozen=True, kw_only=True):
    """Give a route a priority."""

    value: int


class FilterOperation(Strict, frozen=True, kw_only=True):
    """One change of a route that is accepted."""

    add_community: AddCommunity | None = None
    prepend_as_path: PrependASPath | None = field(default=None, name="prependASPath")
    set_priority: SetPriority | None = None


class FilterRule(Strict, frozen=True, kw_only=True):
    """What of a route must match, and what becomes of it then."""

    action: Literal["Accept", "Reject"]
    cidr: str = ""
    match_operator: Literal["Equal", "NotEqual", "In", "NotIn"] | None = None
    prefix_length: PrefixLengths | None = None
    source: Literal["RemotePeers"] | None = None
    interface: str = ""
    peer_type: Literal["eBGP", "iBGP"] | None = None
    communities: CommunityMatch | None = None
    as_path_prefix: list[int | str] = field(default_factory=list, name="asPathPrefix")
    priority: int | None = None
    operations: list[FilterOperation] = []


class BGPFilterSpec(Strict, frozen=True, kw_only=True):
    """Rules in order, by direction and IP version; the first that matches decides."""

    export_v4: list[FilterRule] = []
    import_v4: list[FilterRule] = []
    export_v6: list[FilterRule] = []
    import_v6: list[FilterRule] = []


class BGPFilter(Resource, frozen=True, kw_only=True, tag=True):
    """Rules about routes that BGP peers refer to by name."""

    PLURAL: ClassVar[str] = "bgpfilters"
    SHORT: ClassVar[tuple[str, ...]] = ("bgpf", "bgpfs", "bf", "bfs")
    SEGMENT: ClassVar[str] = "BGPFilters"
    COLUMNS: ClassVar[tuple[Column, ...]] = (
        NAME_COLUMN,
        Column("NUMEXPORTV4", lambda r: str(len(r.spec.export_v4))),
        Column("NUMIMPORTV4", lambda r: str(len(r.spec.import_v4))),
        Column("NUMEXPORTV6", lambda r: str(len(r.spec.export_v6))),
        Column("NUMIMPORTV6", lambda r: str(len(r.spec.import_v6))),
    )

    spec: BGPFilterSpec = field(default_factory=BGPFilterSpec)

    def problems(self) -> Findings:
        """See ``Resource.problems``."""
        from calico.model.bgpfilter_validation import bgp_filter

        return bgp_filter(self)
