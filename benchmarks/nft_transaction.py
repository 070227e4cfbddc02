"""How long the kernel takes to be told: initial load, one endpoint, ten members, a full check. Markdown table.

Run as root: ``python benchmarks/nft_transaction.py``. Works in a network namespace of its own, which goes with the process.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from collections.abc import Callable

from render import endpoint, everything, measured

from calico.desired import Delta, EndpointId, EndpointRow, SetMember
from calico.model.address import Cidr
from calico.model.settings import Settings
from calico.programming.libnftables import Library, Program
from calico.programming.nft import Nftables
from calico.rendering.renderer import Renderer

CLONE_NEWNET = 0x40000000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", action="store_true", help="start nft for each transaction")
    parser.add_argument("--intervals", type=int, default=0, help="prefixes in one set, which slow nft down")
    options = parser.parse_args()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise SystemExit(f"no namespace of its own: {os.strerror(ctypes.get_errno())}; run as root")

    renderer = Renderer(Settings())
    load = everything()
    for number in range(options.intervals):
        load.set_members[SetMember("s:0", Cidr(4, (20 << 24) + number * 256, 24))] = True  # type: ignore[index]
    backend = Nftables(Program() if options.program else Library())
    changes = renderer.update(load)
    rows = [("initial load", measured(lambda _: backend.apply(changes), 1))]
    rows.append(("check, nothing wrong", measured(lambda _: backend.check(renderer.tables), 3)))
    rows.append(("sync, nothing wrong", measured(lambda _: backend.sync(renderer.tables), 3)))
    assert backend.check(renderer.tables) == []

    steps: dict[str, Callable[[int], Delta]] = {
        "10 members join a set": lambda n: Delta(
            set_members={SetMember("s:1", Cidr(4, (11 << 24) + n * 10 + i, 32)): True for i in range(10)}
        ),
        "an endpoint joins others of equal policy": lambda n: Delta(
            endpoints={
                EndpointId("WorkloadEndpoint", "x", str(n)): EndpointRow(
                    f"calix{n}", (), endpoint(3)[1].ingress, (), ("kns.default",)
                )
            }
        ),
        "an endpoint with 20 policies of its own goes or comes": lambda n: Delta(
            endpoints={endpoint(5)[0]: None if n % 2 == 0 else endpoint(5)[1]}
        ),
    }
    for name, step in steps.items():
        todo = iter([renderer.update(step(number)) for number in range(10)])
        rows.append((name, measured(lambda _, todo=todo: backend.apply(next(todo)), 10)))
    assert backend.check(renderer.tables) == []

    way = "the nft program" if options.program else "libnftables"
    print(f"nftables through {way}, {options.intervals} prefixes in one set\n")
    print("| transaction | ms |\n|---|--:|")
    for name, milliseconds in rows:
        print(f"| {name} | {milliseconds:.2f} |")


if __name__ == "__main__":
    main()
