"""How fast the calculation is: load everything, one change, batches of changes, memory. Prints markdown.

    .venv/bin/python benchmarks/settle.py [--endpoints 100000] [--local 100] [--policies 2000]

One thread. The data centre: namespaces of 200 workloads in ten applications, with an allowing profile each; nine of ten
policies let one application of a namespace in to another, the rest are global and mean whole environments.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from calico.calculation.network import Network
from calico.calculation.oracle import desired
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec
from calico.model.fact import InSync, Update
from calico.model.keys import key_of
from calico.model.policy import (
    EntityRule,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    Profile,
    ProfileSpec,
    Rule,
    Tier,
    TierSpec,
)
from calico.model.resource import Metadata, Resource

PER_NAMESPACE = 200
APPS = 10


def endpoint(number: int, local: bool, app: int | None = None) -> WorkloadEndpoint:
    """One workload; its application follows from its number unless it is given."""
    namespace, place = divmod(number, PER_NAMESPACE)
    labels = {
        "app": f"app-{place % APPS if app is None else app}",
        "env": ("prod", "test", "dev", "lab")[namespace % 4],
        "version": f"v{place // APPS % 2}",
    }
    return WorkloadEndpoint(
        metadata=Metadata(name=f"w{number}", namespace=f"ns-{namespace}", labels=labels),
        spec=WorkloadEndpointSpec(
            orchestrator="k8s",
            node="here" if local else f"node-{number % 1000}",
            pod=f"w{number}",
            endpoint="eth0",
            interface_name=f"cali{number}",
            ip_networks=[f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}/32"],
            profiles=[f"kns.ns-{namespace}"],
            mac="ee:ee:ee:ee:ee:ee",
        ),
    )


def policy(number: int, namespaces: int) -> Resource:
    """Every tenth policy is global; the others belong to a namespace, one after the other."""
    if number % 10 == 0:
        environment = ("prod", "test", "dev", "lab")[number // 10 % 4]
        allow = Rule(
            action="Allow",
            protocol="TCP",
            source=EntityRule(selector=f"env == '{environment}' && app == 'app-{number // 40 % APPS}'"),
            destination=EntityRule(ports=[1000 + number]),
        )
        return GlobalNetworkPolicy(
            metadata=Metadata(name=f"g{number}"),
            spec=GlobalPolicySpec(
                tier="platform", order=float(number), selector=f"env == '{environment}'", ingress=[allow]
            ),
        )
    place = number // namespaces
    allow = Rule(
        action="Allow",
        protocol="TCP",
        source=EntityRule(selector=f"app == 'app-{(place + 1) % APPS}'"),
        destination=EntityRule(ports=[80, "8000:8099"]),
    )
    return NetworkPolicy(
        metadata=Metadata(name=f"p{number}", namespace=f"ns-{number % namespaces}"),
        spec=PolicySpec(
            selector=f"app in {{'app-{place % APPS}', 'app-{(place + 5) % APPS}'}}", ingress=[allow]
        ),
    )


def world(endpoints: int, local: int, policies: int) -> Iterator[Resource]:
    """Every resource, as a store would list them."""
    namespaces = -(-endpoints // PER_NAMESPACE)
    every = max(1, endpoints // local)
    yield Tier(metadata=Metadata(name="platform"), spec=TierSpec(order=1.0, default_action="Pass"))
    yield Tier(metadata=Metadata(name="default"), spec=TierSpec(order=2.0))
    for number in range(namespaces):
        name = f"ns-{number}"
        allow = [Rule(action="Allow")]
        yield Profile(
            metadata=Metadata(name=f"kns.{name}"),
            spec=ProfileSpec(
                ingress=allow, egress=allow, labels_to_apply={"pcns.projectcalico.org/name": name}
            ),
        )
    for number in range(policies):
        yield policy(number, namespaces)
    for number in range(endpoints):
        yield endpoint(number, local=number % every == 0)


def memory() -> float:
    """The resident memory of this process, in MB."""
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(line.split()[1]) / 1024


def main() -> None:
    """Measure, check against the oracle at a tenth of the size, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--endpoints", type=int, default=100_000)
    parser.add_argument("--local", type=int, default=100)
    parser.add_argument("--policies", type=int, default=2_000)
    options = parser.parse_args()

    small = {key_of(each): each for each in world(2_000, 20, 200)}
    checked = Network("here")
    checked.update([*(Update(*fact) for fact in small.items()), InSync()])
    checked.settle()
    assert checked.state() == desired("here", small), "the network disagrees with the oracle"
    del checked, small

    updates = [
        Update(key_of(each), each) for each in world(options.endpoints, options.local, options.policies)
    ]
    gc.collect()
    gc.freeze()
    before = memory()
    network = Network("here")
    start = perf_counter()
    network.update(updates)
    taken = perf_counter()
    network.update([InSync()])
    delta = network.settle()
    loaded = perf_counter()
    size = {name: len(getattr(delta, name)) for name in ("set_members", "set_infos", "policies", "endpoints")}
    del delta
    gc.collect()
    after = memory()
    gc.freeze()

    def relabel(number: int, app: int) -> Update:
        resource = endpoint(number, local=False, app=app)
        return Update(key_of(resource), resource)

    singles = []
    for round_ in range(500):
        update = relabel(1 + round_ * 101 % (options.endpoints - 1), round_ % APPS)
        begin = perf_counter()
        network.update([update])
        network.settle()
        singles.append(perf_counter() - begin)

    batch = [
        relabel(number, number // 7 % APPS) for number in range(1, options.endpoints, 10) if number % 1000
    ]
    begin = perf_counter()
    network.update(batch)
    network.settle()
    rate = len(batch) / (perf_counter() - begin)

    changed = policy(1, -(-options.endpoints // PER_NAMESPACE))
    begin = perf_counter()
    network.update([Update(key_of(changed), None)])
    network.settle()
    removed = perf_counter() - begin

    print(f"Python {platform.python_version()}, {platform.machine()}, {sys.platform}")
    print(
        f"{options.endpoints:,} endpoints ({options.local:,} local), {options.policies:,} policies: ", end=""
    )
    print(", ".join(f"{count:,} {name}" for name, count in size.items()))
    print()
    print("| what | result |")
    print("|---|--:|")
    print(f"| take all facts | {taken - start:.2f} s |")
    print(f"| settle all | {loaded - taken:.2f} s |")
    print(f"| load, together | {loaded - start:.2f} s |")
    print(f"| one remote relabel (median of 500) | {median(singles) * 1e3:.3f} ms |")
    print(
        f"| one remote relabel (99 of 100 within) | {sorted(singles)[int(len(singles) * 0.99)] * 1e3:.3f} ms |"
    )
    print(f"| batch of {len(batch):,} relabels | {rate:,.0f} /s |")
    print(f"| remove one policy | {removed * 1e3:.2f} ms |")
    print(f"| memory after load, without the resources | {after - before:.0f} MB |")


if __name__ == "__main__":
    main()
