"""What can go wrong in address management, besides the store's own errors.

Each class is one situation; its fields are for programs, its sentence is for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from calico.model.address import Cidr


class IPAMError(Exception):
    """The base of what address management raises."""


class Contended(IPAMError):
    """Others changed a record each time it was to be written; nothing more was changed."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path} was changed by others each time it was to be written; try again")


class BadRecord(IPAMError):
    """What the store holds at ``path`` is no record of address management; it was not changed."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        super().__init__(f"{path} holds no valid record: {reason}; repair or delete it")


class NoSuchPool(IPAMError):
    """A pool that was asked for by name or prefix does not exist, or gives no addresses; nothing was assigned."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"no addresses from pool {name}: {reason}")


class NotInPool(IPAMError):
    """An address that was asked for lies in no pool that would give it; nothing was assigned."""

    def __init__(self, address: Cidr, reason: str = "it lies in no pool that is enabled") -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address.address} cannot be assigned: {reason}")


class AlreadyAssigned(IPAMError):
    """An address that was asked for has an owner, or cools down after its last one (``handle`` is None then)."""

    def __init__(self, address: Cidr, handle: str | None, attributes: Mapping[str, str]) -> None:
        self.address = address
        self.handle = handle
        self.attributes = dict(attributes)
        noted = ", ".join(f"{name}={value}" for name, value in sorted(attributes.items()))
        whose = f"handle {handle} has it" if handle else "it was released, and cools down"
        super().__init__(
            f"{address.address} is assigned already: {whose}{f' ({noted})' if noted else ''}; "
            + ("release it first, or take another" if handle else "wait, or take another")
        )


class NotOurs(IPAMError):
    """An address that was asked for lies in a block of somebody else, and strict affinity forbids to borrow."""

    def __init__(self, address: Cidr, block: Cidr, owner: str | None) -> None:
        self.address = address
        self.block = block
        self.owner = owner
        super().__init__(
            f"{address.address} lies in block {block}, which is of {owner or 'nobody'}, and strictAffinity of the"
            " IPAMConfiguration forbids to borrow from it; take an address of an own block, or turn that off"
        )


class Short(IPAMError):
    """Fewer addresses were to be had than all that were wanted; what there was has been given back."""

    def __init__(self, wanted: int, got: int, messages: Sequence[str]) -> None:
        self.wanted = wanted
        self.got = got
        self.messages = tuple(messages)
        super().__init__(
            f"{wanted} addresses were wanted and {got} were to be had: "
            + ("; ".join(messages) or "the pools are exhausted")
        )
