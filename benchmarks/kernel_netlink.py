"""What routes, neighbours and listings cost, with our own netlink and with pyroute2. Prints markdown.

    sudo .venv/bin/python benchmarks/kernel_netlink.py [--routes 2000] [--runs 5]

Works in a network namespace of its own, which goes with the process. Medians; one thread. The reason why
``calico.programming.netlink`` exists: if the library's column ever comes near ours, use the library.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from calico.desired import RouteRow
from calico.model.address import Cidr
from calico.model.settings import Settings
from calico.programming.netlink import ROUTE, Channel
from calico.programming.routes import Routes
from calico.programming.rtnetlink import (
    device_route,
    drop_route,
    find_links,
    list_links,
    list_routes,
    put_route,
)

_CLONE_NEWNET = 0x40000000
INTERFACES = 20


def timed(act: Callable[[], object]) -> float:
    """Milliseconds that ``act`` takes."""
    start = perf_counter()
    act()
    return (perf_counter() - start) * 1000


def furnish() -> None:
    """Enter a namespace of our own, with some workload interfaces that are up."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        sys.exit(f"A network namespace cannot be made ({os.strerror(ctypes.get_errno())}): run this as root.")
    lines = [
        line
        for n in range(INTERFACES)
        for line in (
            f"link add cali{n} type veth peer name p{n}",
            f"link set cali{n} up",
            f"link set p{n} up",
        )
    ]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)


def ours(count: int) -> dict[str, float]:
    """One run with our own messages."""
    with Channel(ROUTE) as channel:
        index = find_links(channel, ["cali0"])["cali0"].number
        routes = [
            device_route(Cidr(4, (10 << 24) + n, 32), index, metric=1024, protocol=3) for n in range(count)
        ]
        return {
            "add routes": timed(lambda: channel.transact([put_route(route) for route in routes])),
            "list routes": timed(lambda: list_routes(channel, 4)),
            "list links": timed(lambda: list_links(channel)),
            "delete routes": timed(lambda: channel.transact([drop_route(route) for route in routes])),
        }


def theirs(count: int) -> dict[str, float]:
    """The same with pyroute2."""
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        (index,) = kernel.link_lookup(ifname="cali0")
        routes = [
            {"dst": Cidr(4, (10 << 24) + n, 32).address, "dst_len": 32, "oif": index, "priority": 1024,
             "scope": 253, "proto": 3}
            for n in range(count)
        ]  # fmt: skip

        def each(verb: str) -> None:
            for route in routes:
                kernel.route(verb, **route)

        return {
            "add routes": timed(lambda: each("replace")),
            "list routes": timed(lambda: list(kernel.get_routes(family=2, table=254))),
            "list links": timed(lambda: list(kernel.get_links())),
            "delete routes": timed(lambda: each("del")),
        }


def whole(count: int) -> dict[str, float]:
    """What the agent does: routes with neighbours of both families, spread over the interfaces."""
    routes = Routes(Settings())
    rows = {
        Cidr(4, (10 << 24) + n, 32): RouteRow(f"cali{n % INTERFACES}", "02:00:00:00:00:01")
        for n in range(count // 2)
    } | {
        Cidr(6, (0xFD << 120) + n, 128): RouteRow(f"cali{n % INTERFACES}", "02:00:00:00:00:01")
        for n in range(count // 2)
    }
    one = {Cidr(4, 11 << 24, 32): RouteRow("cali0", "02:00:00:00:00:01")}
    return {
        "apply all": timed(lambda: routes.apply(dict(rows))),
        "sync, nothing to do": timed(lambda: routes.sync(rows)),
        "apply one": timed(lambda: routes.apply(dict(one))),
        "withdraw one": timed(lambda: routes.apply(dict.fromkeys(one))),
        "withdraw all": timed(lambda: routes.apply(dict.fromkeys(rows))),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    furnish()

    def medians(act: Callable[[int], dict[str, float]]) -> dict[str, float]:
        runs = [act(options.routes) for _ in range(options.runs)]
        return {name: median(run[name] for run in runs) for name in runs[0]}

    mine, library, agent = medians(ours), medians(theirs), medians(whole)
    print(
        f"{options.routes} routes, {options.runs} runs, Linux {platform.release()}, CPython {platform.python_version()}\n"
    )
    print("| ms | ours | pyroute2 | ratio |\n|---|--:|--:|--:|")
    for name, took in mine.items():
        print(f"| {name} | {took:.1f} | {library[name]:.1f} | {library[name] / took:.0f} |")
    print("\n| routes and neighbours of both families | ms |\n|---|--:|")
    for name, took in agent.items():
        print(f"| {name} | {took:.2f} |")


if __name__ == "__main__":
    main()
