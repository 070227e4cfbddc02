"""What all resources have in common: type, metadata, and the base of every kind.

A kind is one class in a file of its subject and one line in ``model.keys.KINDS``. The class says all there
is to say about the kind: its names, what its table shows, and, as methods, what would be wrong with a
resource of it, what a client fills in, what may not change, and what is stored but not acted on.

In:   the fields of a kind, as types.
Next: ``model.keys`` lists the kinds, ``model.codec`` reads and writes them, ``model.validation`` asks them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, NamedTuple, Self

import msgspec
from msgspec import field

from calico.model.errors import Findings

API_VERSION = "projectcalico.org/v3"

STORED: Final = "/calico/resources/v3/projectcalico.org/"
"""The store's prefix of all resources of our own group (Calico's etcd layout)."""


class Column(NamedTuple):
    """A column of a kind's table: its heading, and what stands below it."""

    heading: str
    cell: Callable[[Any], str]
    wide: bool = False
    """Only with ``-o wide``."""


NAME_COLUMN: Final = Column("NAME", lambda resource: resource.metadata.name)


def listed(values: Any) -> str:
    """The values of a list as one cell."""
    return ",".join(map(str, values))


def shown(value: Any) -> str:
    """One value as a cell: true and false, numbers without a needless fraction, nothing for what is unset."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)


class Strict(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"
):
    """The base of all API values: frozen, camelCase outside, unknown fields are errors.

    Defaults are left out of JSON, except those that a factory other than list or dict makes. msgspec
    compares with ``is``, so a default that is a value of its own, such as a whole spec, needs a factory:
    else equal resources would have different JSON.
    """


class Metadata(Strict, frozen=True, kw_only=True):
    """``metadata`` of a resource, as in Kubernetes; ``resource_version`` is the store's revision, never stored."""

    name: str = ""
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str | None = None
    creation_timestamp: str | None = None
    resource_version: str | None = None
    generate_name: str | None = None
    generation: int | None = None
    self_link: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    finalizers: list[str] = []
    owner_references: list[dict[str, Any]] = []
    managed_fields: list[dict[str, Any]] = []


class Resource(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """One resource of a kind; subclasses add ``spec`` (and ``status``) and say what holds of the kind.

    msgspec writes the tag, which is the class's own name unless it says another, as ``kind``, and checks it on
    the way in. ``apiVersion`` is omitted by msgspec as a default; ``calico.model.codec`` always writes it.
    """

    PLURAL: ClassVar[str]
    """Lower-case plural: the command line's word for the kind."""
    NAMESPACED: ClassVar[bool] = False
    SHORT: ClassVar[tuple[str, ...]] = ()
    """Further words for the kind that calicoctl understands."""
    API_VERSION: ClassVar[str] = API_VERSION
    SEGMENT: ClassVar[str] = ""
    """The plural as the store writes it, where that differs from ``PLURAL``."""
    STORED: ClassVar[str] = STORED
    """The store's prefix under which the kind's plural stands."""
    COLUMNS: ClassVar[tuple[Column, ...]] = (NAME_COLUMN,)
    """What its table shows (behaviour reference 8.3); NAMESPACE is added where it is asked for."""
    ONLY: ClassVar[str] = ""
    """The only name that a resource of the kind may have, if there is just one."""
    READ_ONLY: ClassVar[str] = ""
    """Why people may not write the kind, as a sentence; empty where they may."""
    STATUS: ClassVar[bool] = False
    """Whether ``status`` is filled in by the system, and kept when people write ``spec``."""

    api_version: str = API_VERSION
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def kind(self) -> str:
        """The kind as keys call it: unique, and as in YAML but for kinds that two groups have."""
        return type(self).__name__

    def place(self) -> tuple[str, str]:
        """Name and namespace ("" for cluster-wide kinds) of the key that the resource is stored under."""
        return self.metadata.name, (self.metadata.namespace or "") if self.NAMESPACED else ""

    def name_problems(self) -> Findings:
        """What is wrong with the name: it must be a DNS subdomain, or the only one that there may be."""
        from calico.model import checks

        if self.ONLY:
            yield from checks.only(("metadata", "name"), self.metadata.name, self.ONLY, self.kind)
        else:
            yield from checks.dns_subdomain(("metadata", "name"), self.metadata.name)

    def problems(self) -> Findings:
        """What is wrong with ``spec`` and ``status``, and with metadata beyond what holds of all kinds."""
        yield from ()

    def changes(self, before: Self) -> Findings:
        """What may not change of a stored resource, and does between ``before`` and this one."""
        del before
        yield from ()

    def defaulted(self) -> Self:
        """The resource as a client stores it: what the operator left to us filled in, and nothing else changed.

        The same again for a second call.
        """
        return self

    def not_done(self) -> Findings:
        """What is valid, stored and given back, but not acted on by this version; people are warned of it."""
        yield from ()


def kind_word(kind: type[Resource]) -> str:
    """The kind as YAML writes it."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
