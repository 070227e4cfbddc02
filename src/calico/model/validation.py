"""What is wrong with a resource beyond its types, and what a client fills in (behaviour reference 1).

In:   one resource, of any kind, well typed.
Out:  ``problems_of``: everything that is wrong with it; ``defaulted``: the resource as it is to be stored.
Next: ``model.codec`` turns findings into ``Problem`` with line and column; clients store the defaulted resource.

What holds of all kinds stands here, the rest in each kind's own class. Only the resource itself is looked
at; what depends on other facts (does the tier exist, do pools overlap) is for ``datastore.admission``.
"""

from __future__ import annotations

from typing import Final, TypeVar

from msgspec.structs import replace

from calico.model import checks
from calico.model.errors import Finding, Findings
from calico.model.resource import Resource

DEFAULT_NAMESPACE: Final = "default"
ANNOTATIONS_SIZE: Final = 256 * 1024

K = TypeVar("K", bound=Resource)


def problems_of(resource: Resource) -> list[Finding]:
    """Everything that is wrong with ``resource``, metadata first; an empty list when it may be stored."""
    return [*_metadata(resource), *resource.problems()]


def defaulted(resource: K) -> K:
    """``resource`` as a client stores it: with everything filled in that the operator left to us.

    A namespace, and what the kind's own ``defaulted`` says. What is given stays; the result of a second call
    is the same.
    """
    if resource.NAMESPACED and not resource.metadata.namespace:
        resource = replace(resource, metadata=replace(resource.metadata, namespace=DEFAULT_NAMESPACE))
    return resource.defaulted()


def _metadata(resource: Resource) -> Findings:
    metadata = resource.metadata
    if not metadata.name:
        # A kind whose names are made of the spec has none of its own to ask for.
        if any(resource.name_problems()):
            yield Finding(("metadata", "name"), "the resource has no name", "add metadata.name")
    else:
        yield from resource.name_problems()
    if metadata.namespace:
        if resource.NAMESPACED:
            yield from checks.dns_label(("metadata", "namespace"), metadata.namespace)
        else:
            yield Finding(
                ("metadata", "namespace"), f"a {resource.kind} belongs to no namespace", "remove it"
            )
    yield from checks.labels(("metadata", "labels"), metadata.labels)
    for key in metadata.annotations:
        yield from checks.qualified_name(("metadata", "annotations", key), key.lower())
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.annotations.items())
    if size > ANNOTATIONS_SIZE:
        yield Finding(
            ("metadata", "annotations"),
            f"the annotations are {size} bytes long",
            f"{ANNOTATIONS_SIZE} is the most",
        )
