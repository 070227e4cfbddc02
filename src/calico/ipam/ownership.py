"""Whose an allocated address is, by what is noted with it, and why an address without a user may yet have an owner.

In:   the attributes of an allocation, and the picture.
Out:  node, block owner, and whether the owner lives, with the reason in words.
Next: ``ipam.audit`` calls an address leaked, or not, by ``keeper``; ``ipam.account`` tells it to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from calico.ipam.block import WINDOWS, handle_of
from calico.ipam.picture import Picture
from calico.model.ipam import AllocationAttribute, IPAMBlock

_HOST: Final = "host:"
_NOTHING: Final[Mapping[str, str]] = {}


class Life(NamedTuple):
    """Whether the owner of an address lives; None where nobody here can know."""

    alive: bool | None
    reason: str


def noted(attribute: AllocationAttribute | None) -> Mapping[str, str]:
    """What was said of the owner when the address was given."""
    return (attribute.secondary or _NOTHING) if attribute is not None else _NOTHING


def host_of(affinity: str | None) -> str:
    """The host that a block belongs to; empty if it is nobody's, or no host's."""
    return affinity.removeprefix(_HOST) if affinity and affinity.startswith(_HOST) else ""


def is_cooling(attribute: AllocationAttribute | None) -> bool:
    """Whether an address was released and is nobody's, but not given again yet."""
    return attribute is not None and bool(attribute.released_at)


def node_of(block: IPAMBlock, attribute: AllocationAttribute | None) -> str:
    """The node that an address was given to; where that is not noted, the block's host."""
    return noted(attribute).get("node") or host_of(block.affinity)


def is_windows(attribute: AllocationAttribute | None) -> bool:
    """Whether a host with Windows keeps an address for itself; no handle stands for it."""
    return attribute is not None and handle_of(attribute).lower() == WINDOWS


def keeper(attribute: AllocationAttribute | None) -> str:
    """Who keeps an address that nobody uses just now; empty if there is no such reason.

    A virtual machine keeps its address while it is stopped, and no store here says which machines exist.
    """
    if attribute is None:
        return ""
    if is_windows(attribute):
        return "Reserved for Windows"
    machine = noted(attribute).get("vmi-name")
    return f"VirtualMachine({noted(attribute).get('namespace', 'default')}/{machine})" if machine else ""


def life(picture: Picture, address: str, block: IPAMBlock, attribute: AllocationAttribute | None) -> Life:
    """Whether the owner of an allocated ``address`` lives."""
    users = picture.uses.get(address, ())
    if users:
        return Life(alive=True, reason=f"{' and '.join(users)} {'uses' if len(users) == 1 else 'use'} it")
    kept = keeper(attribute)
    if is_windows(attribute):
        return Life(alive=True, reason="hosts with Windows keep it for themselves")
    if kept:
        return Life(alive=None, reason=f"it is kept for {kept}; whether that exists is not known here")
    node = node_of(block, attribute)
    gone = f"; node {node} is gone, too" if node and node not in picture.nodes else ""
    values = noted(attribute)
    if kind := values.get("type"):
        if gone:
            return Life(alive=False, reason=f"it was given to node {node} as {kind}, and that node is gone")
        return Life(alive=False, reason=f"node {node} exists, but names it nowhere as its {kind}")
    if service := values.get("service"):
        return Life(alive=False, reason=f"no service has it; it was given for {service}")
    pod = values.get("pod")
    if not pod:
        return Life(alive=False, reason=f"no endpoint, node or service uses it{gone}")
    name = f"{values.get('namespace', 'default')}/{pod}"
    if name in picture.pods:
        return Life(alive=False, reason=f"{name} exists, but does not use it{gone}")
    return Life(alive=False, reason=f"{name} is gone: there is no endpoint or pod of that name{gone}")
