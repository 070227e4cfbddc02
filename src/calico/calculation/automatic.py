"""The host endpoints that nodes get by themselves (behaviour reference 1.15, 9.2).

In:   a node, and the KubeControllersConfiguration, whose ``controllers.node.hostEndpoint`` asks for them.
Out:  ``automatic``: the host endpoints that the node should have; ``is_automatic``, ``alike`` for those that are stored.
Next: ``agent.hostendpoints`` stores them, where users and every agent find them as they find others.

They carry the profile that allows everything: as long as no policy selects them, nothing changes. A label says that
they were made so, and what does not have it was made by somebody else, whatever it is called.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from calico.model.address import Cidr, address_in, parse_cidr
from calico.model.checks import NAME_LENGTH
from calico.model.cluster import AutoHostEndpoint, HostEndpointTemplate, KubeControllersConfiguration
from calico.model.endpoint import ALL_INTERFACES, HostEndpoint, HostEndpointSpec
from calico.model.errors import ModelError
from calico.model.node import Node
from calico.model.policy import DEFAULT_ALLOW_PROFILE
from calico.model.resource import Metadata
from calico.model.selector import parse
from calico.model.validation import problems_of

CREATED_BY: Final = "projectcalico.org/created-by"
CREATOR: Final = "calico-kube-controllers"
"""The label, and its value, of host endpoints that were made for a node."""

_SUFFIX: Final = "auto-hep"
_INTERNAL: Final = "InternalIP"


class Wanted(NamedTuple):
    """What a node should have."""

    endpoints: Mapping[str, HostEndpoint]
    """By name."""
    problems: tuple[str, ...]
    """What could not be made, for people."""


NOTHING: Final = Wanted({}, ())


def automatic(node: Node, configuration: KubeControllersConfiguration | None) -> Wanted:
    """The host endpoints that ``node`` should have.

    None without ``autoCreate: Enabled``. Else one for all interfaces, unless that is switched off, and those of each
    template whose selector matches the node's labels: one with the node's addresses within the template's prefixes, or
    one for each interface of the node that the template's pattern finds. Of equal names the last one counts.
    """
    asked = _asked(configuration)
    if asked is None or asked.auto_create != "Enabled":
        return NOTHING
    made: dict[str, HostEndpoint] = {}
    problems: list[str] = []
    addresses = _addresses(node)
    if asked.create_default_host_endpoint != "Disabled":
        plain = HostEndpointTemplate()
        _put(made, problems, _made(node, plain, "", addresses, ALL_INTERFACES))
    for index, template in enumerate(asked.templates):
        try:
            matches = parse(template.node_selector).matches(node.metadata.labels)
            for endpoint in _of_template(node, template, addresses) if matches else ():
                _put(made, problems, endpoint)
        except (ModelError, re.error) as error:
            label = template.generate_name or str(index)
            problems.append(f"template {label} of automatic host endpoints makes none: {error}")
    return Wanted(made, tuple(problems))


def is_automatic(endpoint: HostEndpoint) -> bool:
    """Whether it was made for a node, and not by a person."""
    return endpoint.metadata.labels.get(CREATED_BY) == CREATOR


def alike(stored: HostEndpoint, wanted: HostEndpoint) -> bool:
    """Whether ``stored`` says what ``wanted`` says; annotations of others, and the order of addresses, do not matter."""
    ours, theirs = wanted.spec, stored.spec
    return (
        stored.metadata.labels == wanted.metadata.labels
        and wanted.metadata.annotations.items() <= stored.metadata.annotations.items()
        and (theirs.node, theirs.interface_name) == (ours.node, ours.interface_name)
        and {*_parsed(theirs.expected_ips)} == {*_parsed(ours.expected_ips)}
        and (theirs.profiles, theirs.ports) == (ours.profiles, ours.ports)
    )


def _asked(configuration: KubeControllersConfiguration | None) -> AutoHostEndpoint | None:
    controllers = configuration.spec.controllers if configuration is not None else None
    node = controllers.node if controllers is not None else None
    return node.host_endpoint if node is not None else None


def _put(made: dict[str, HostEndpoint], problems: list[str], endpoint: HostEndpoint) -> None:
    """Add what may be stored; a name made of other names may be none."""
    for finding in problems_of(endpoint):
        problems.append(
            f"the automatic host endpoint {endpoint.metadata.name} is not made: {finding.message}"
        )
        return
    made[endpoint.metadata.name] = endpoint


def _of_template(
    node: Node, template: HostEndpointTemplate, addresses: Iterable[Cidr]
) -> Iterator[HostEndpoint]:
    if not template.generate_name:
        raise ModelError("it needs generateName, or its host endpoints would have the names of others")
    nets = [parse_cidr(text) for text in template.interface_cidrs]
    within = [address for address in addresses if any(net.contains(address) for net in nets)]
    if not template.interface_pattern:
        if within:
            yield _made(node, template, "", within, "")
        return
    pattern = re.compile(template.interface_pattern)
    for interface in node.spec.interfaces:
        if pattern.search(interface.name):
            own = [*_parsed(interface.addresses)]
            yield _made(node, template, interface.name, [*within, *own], interface.name)


def _made(
    node: Node, template: HostEndpointTemplate, part: str, addresses: Iterable[Cidr], interface: str
) -> HostEndpoint:
    name = _name(filter(None, (node.metadata.name, template.generate_name, part, _SUFFIX)))
    labels = {**node.metadata.labels, **template.labels, CREATED_BY: CREATOR}
    return HostEndpoint(
        metadata=Metadata(name=name, labels=labels, annotations=dict(template.annotations)),
        spec=HostEndpointSpec(
            node=node.metadata.name,
            interface_name=interface,
            expected_ips=[address.address for address in dict.fromkeys(addresses)],
            profiles=[DEFAULT_ALLOW_PROFILE],
        ),
    )


def _name(parts: Iterable[str]) -> str:
    """The parts with dashes between; where that is too long, a digest of it in their place, as Calico has it."""
    name = "-".join(parts)
    if len(name) <= NAME_LENGTH:
        return name
    digest = base64.urlsafe_b64encode(hashlib.sha256(name.encode()).digest()).decode().rstrip("=")
    return f"{re.sub('[-_.]', '', digest)}-{_SUFFIX}".lower()


def _addresses(node: Node) -> list[Cidr]:
    """All addresses of the node itself, tunnels' among them, each once; external ones belong to other machines."""
    spec = node.spec
    texts: list[str] = []
    if spec.bgp is not None:
        texts += [spec.bgp.ipv4_address, spec.bgp.ipv6_address]
    texts += node.tunnel_addresses()
    texts += [each.address for each in spec.addresses if each.type == _INTERNAL]
    texts += [text for interface in spec.interfaces for text in interface.addresses]
    return [*dict.fromkeys(_parsed(texts))]


def _parsed(texts: Iterable[str]) -> Iterator[Cidr]:
    """The addresses in texts; what is none is left out."""
    return filter(None, map(address_in, texts))
