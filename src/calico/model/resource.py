"""What all resources have in common: type, metadata, and the base of every kind."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import field

API_VERSION = "projectcalico.org/v3"


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
    """One resource of a kind; subclasses add ``spec`` (and ``status``) and say how the kind is called.

    The kind is the class's own name: msgspec writes it as the tag ``kind``, and checks it on the way in.
    ``apiVersion`` is omitted by msgspec as a default; ``calico.model.codec`` always writes it.
    """

    PLURAL: ClassVar[str]
    """Lower-case plural: the command line's word and the segment of the store's path."""
    NAMESPACED: ClassVar[bool] = False
    SHORT: ClassVar[tuple[str, ...]] = ()
    """Short names that calicoctl understands."""

    api_version: str = API_VERSION
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def kind(self) -> str:
        """The kind, as in YAML."""
        return type(self).__name__
