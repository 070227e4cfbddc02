"""Policies before connection tracking on host endpoints for all interfaces: they are not asked (behaviour reference 3.6).

In:   a policy or a host endpoint, and all that are known of both.
Out:  ``Findings``, as ``analysis.lint`` adds them to what else is surely not meant.
Next: ``cli.problems`` shows them.

Calico ignores such a policy there, and so do we: what it should deny, in particular, is not denied by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from calico.analysis.hidden import selected_by
from calico.model.endpoint import HostEndpoint, is_for_all
from calico.model.errors import Finding, Findings, ModelError
from calico.model.keys import Key, key_of
from calico.model.policy import DEFAULT_ALLOW_PROFILE, GlobalNetworkPolicy
from calico.model.resource import Resource

NAMED: Final = 3
"""How many resources a sentence names."""


class Untracked:
    """The policies with ``doNotTrack``, and the host endpoints for all interfaces, among what is known."""

    def __init__(self, resources: Iterable[Resource], stored: Iterable[Resource]) -> None:
        known: Mapping[Key, Resource] = {key_of(each): each for each in (*stored, *resources)}
        self._policies = [
            each
            for each in known.values()
            if isinstance(each, GlobalNetworkPolicy) and each.spec.do_not_track
        ]
        self._hosts = [each for each in known.values() if is_for_all(each)]

    def ignored(self, resource: Resource) -> Findings:
        """Where a policy is ignored, or which policies a host endpoint ignores."""
        if isinstance(resource, GlobalNetworkPolicy) and resource.spec.do_not_track:
            names = [each.metadata.name for each in self._hosts if _selects(resource, each)]
            if names:
                yield Finding(
                    ("spec", "doNotTrack"),
                    f"the policy has no effect on HostEndpoint {_listed(names)}, for all interfaces "
                    "(interfaceName '*'): policy before connection tracking needs an interface of its own",
                    "add host endpoints that name their interfaces, or remove doNotTrack",
                )
        elif is_for_all(resource):
            names = [each.metadata.name for each in self._policies if _selects(each, resource)]
            if names:
                yield Finding(
                    ("spec", "interfaceName"),
                    f"GlobalNetworkPolicy {_listed(names)} with doNotTrack has no effect on an endpoint for all interfaces",
                    "name the interface, or remove doNotTrack from the policy",
                )


def _selects(policy: GlobalNetworkPolicy, host: HostEndpoint) -> bool:
    """Whether the policy selects it; other profiles may give it labels that are not known here."""
    if not {DEFAULT_ALLOW_PROFILE}.issuperset(host.spec.profiles):
        return False
    try:
        return selected_by(policy, policy.spec).matches(host.metadata.labels)
    except ModelError:
        return False  # that is an error, not a warning


def _listed(names: list[str]) -> str:
    names = sorted(names)
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
