"""What must be true of address management's records: the oracle of every test of it under failures.

In:   the records as they are in the store, and who was promised which address.
Out:  each thing that is wrong, as a sentence; none where all is well.

It reads the stored JSON with nothing of the code under test. What holds after *every single write*:

* each address of a block is free or taken (by a handle, or cooling down), exactly once, and no two blocks overlap;
* a handle counts in each block at least the addresses that it has there (it is written before the block);
* a claim that is confirmed is on a block that is the claimant's, so that no block has two owners;
* a block's sequence number grows when its addresses change hands, also where it is deleted and made anew between;
* who was promised an address has it, until it begins to give it back.

What holds *at rest*, when all have come to an end and what crashed was cleared up: counts equal addresses, no handle is
without, no claim is half made or half given up, each block's owner has one, and nobody has an address who was not promised it.
"""

from __future__ import annotations

import functools
import ipaddress
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from calico.datastore.api import Entry

IPAM = "/calico/ipam/v2/"


@functools.lru_cache(maxsize=4096)
def _read(value: bytes) -> dict[str, Any]:
    return json.loads(value) if value else {}


def _cidr(name: str) -> str:
    """10.0.0.0-26 as 10.0.0.0/26; IPv6 alike."""
    return name.replace("-", "/")


@dataclass
class Block:
    """One block: the addresses that are taken, with whose they are (None: it cools down), and what is wrong in itself."""

    owner: str | None
    sequence: int
    taken: dict[str, str | None]
    free: int
    wrong: list[str]


@functools.lru_cache(maxsize=4096)
def _block(value: bytes) -> Block:
    record = _read(value)
    network = ipaddress.ip_network(record["cidr"])
    allocations, free = record["allocations"], record["unallocated"]
    attributes = record.get("attributes", [])
    wrong = []
    if len(allocations) != network.num_addresses:
        wrong.append(f"has {len(allocations)} places for {network.num_addresses} addresses")
    places = Counter([*free, *(place for place, index in enumerate(allocations) if index is not None)])
    wrong += [
        f"has {network[place]} {places[place]} times among free and taken ones"
        for place in range(len(allocations))
        if places[place] != 1
    ]
    taken: dict[str, str | None] = {}
    for place, index in enumerate(allocations):
        if index is None:
            continue
        attribute = attributes[index]
        handle = attribute.get("handle_id") or None
        if (handle is None) != bool(attribute.get("releasedAt")):
            wrong.append(f"gave {network[place]} to {handle} with {attribute}")
        taken[str(network[place])] = handle
    if unused := set(range(len(attributes))) - set(allocations):
        wrong.append(f"keeps attributes {unused} of nobody")
    numbered = {str(network[int(place)]) for place in record.get("sequenceNumberForAllocation", {})}
    if missing := {address for address, handle in taken.items() if handle is not None} - numbered:
        wrong.append(f"noted no sequence number for {missing}")
    return Block(record.get("affinity"), record["sequenceNumber"], taken, len(free), wrong)


@dataclass
class Picture:
    """All records at one moment."""

    blocks: dict[str, Block] = field(default_factory=dict)
    claims: dict[tuple[str, str], str] = field(default_factory=dict)
    """The state of each claim, by owner ("host:a") and block."""
    handles: dict[str, dict[str, int]] = field(default_factory=dict)
    """What each handle counts in each block."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Picture:
        now = cls()
        for entry in entries:
            what, *rest = entry.path.removeprefix(IPAM).split("/")
            if what == "assignment":
                now.blocks[_cidr(rest[-1])] = _block(entry.value)
            elif what in {"host", "virtual"}:
                now.claims[f"{what}:{rest[0]}", _cidr(rest[-1])] = (
                    _read(entry.value).get("state") or "confirmed"
                )
            elif what == "handle":
                now.handles[rest[0]] = _read(entry.value).get("block", {})
        return now

    def taken(self) -> dict[str, str | None]:
        """Whose each taken address is; None: it cools down."""
        return {address: handle for block in self.blocks.values() for address, handle in block.taken.items()}

    def wrong(self) -> Iterator[str]:
        """What must not be, at any moment."""
        for cidr, block in self.blocks.items():
            yield from (f"block {cidr} {sentence}" for sentence in block.wrong)
            for handle, count in Counter(filter(None, block.taken.values())).items():
                if self.handles.get(handle, {}).get(cidr, 0) < count:
                    yield f"handle {handle} has {count} addresses of {cidr}, and counts {self.handles.get(handle)}"
        networks = sorted(map(ipaddress.ip_network, self.blocks), key=lambda net: (net.version, net))
        for one, other in itertools.pairwise(networks):
            if one.version == other.version and one.overlaps(other):
                yield f"blocks {one} and {other} overlap"
        for (owner, cidr), state in self.claims.items():
            block = self.blocks.get(cidr)
            if state == "confirmed" and (block is None or block.owner != owner):
                yield f"{owner} has a confirmed claim on {cidr}, which is of {block and block.owner}"

    def unfinished(self) -> Iterator[str]:
        """What must not be at rest."""
        for (owner, cidr), state in self.claims.items():
            if state != "confirmed":
                yield f"the claim of {owner} on {cidr} is {state}"
        for handle, counts in self.handles.items():
            has = {
                cidr: number
                for cidr, block in self.blocks.items()
                if (number := sum(other == handle for other in block.taken.values()))
            }
            if counts != has or not has:
                yield f"handle {handle} counts {counts} and has {has}"
        for cidr, block in self.blocks.items():
            if not block.owner and not block.taken:
                yield f"block {cidr} is nobody's, and empty"
            if block.owner and (block.owner, cidr) not in self.claims:
                yield f"block {cidr} is of {block.owner}, which has no claim on it"


class Ledger:
    """Who was promised which address, and everything that was ever wrong with the records."""

    def __init__(self) -> None:
        self.promised: dict[str, str] = {}
        self.wrong: list[str] = []
        self._before = Picture()
        self._sequences: dict[str, int] = {}

    def promise(self, handle: str, addresses: Iterable[object]) -> None:
        """An assignment has returned these addresses (with or without their length)."""
        for address in (str(ipaddress.ip_interface(str(each)).ip) for each in addresses):
            if address in self.promised:
                self.wrong.append(f"{address} was given to {handle}, and is with {self.promised[address]}")
            self.promised[address] = handle

    def forgive(self, *, handle: str | None = None, address: object = None) -> None:
        """Somebody begins to give back what ``handle`` has, or one address."""
        for each, owner in list(self.promised.items()):
            if owner == handle or (address is not None and each == str(address).partition("/")[0]):
                del self.promised[each]

    def see(self, entries: Iterable[Entry]) -> None:
        """The records as they are after one more write."""
        now = Picture.of(entries)
        self.wrong += now.wrong()
        for cidr, block in now.blocks.items():
            before = self._before.blocks.get(cidr)
            if block.sequence < self._sequences.get(cidr, 0) + (
                before is None or before.taken != block.taken
            ):
                self.wrong.append(f"block {cidr} was written with sequence number {block.sequence} again")
            self._sequences[cidr] = block.sequence
        self._before = now

    def keep(self, entries: Iterable[Entry], promised: Mapping[str, str]) -> None:
        """The records as they were while all of ``promised`` was: each has what it was promised."""
        taken = Picture.of(entries).taken()
        for address, handle in promised.items():
            if taken.get(address) != handle:
                self.wrong.append(f"{address} was promised to {handle}, and is with {taken.get(address)}")

    def rest(self, entries: Iterable[Entry]) -> None:
        """All have come to an end."""
        now = Picture.of(entries)
        self.wrong += now.wrong()
        self.wrong += now.unfinished()
        owned = {address: handle for address, handle in now.taken().items() if handle is not None}
        if owned != self.promised:
            self.wrong += [
                f"{address} is with {owned.get(address)}, but was promised to {self.promised.get(address)}"
                for address in owned.keys() | self.promised.keys()
                if owned.get(address) != self.promised.get(address)
            ]
