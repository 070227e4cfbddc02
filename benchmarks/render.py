"""How long rendering takes: 2,000 policies, 100 local endpoints. Prints a table in markdown.

Run: ``python benchmarks/render.py``
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
)
from calico.model.address import Cidr
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer

POLICIES, RULES, ENDPOINTS, SETS, MEMBERS = 2000, 4, 100, 500, 100
EACH = POLICIES // ENDPOINTS


def policy(number: int) -> PolicyId:
    return PolicyId("GlobalNetworkPolicy", "", f"policy-{number}")


def rules(number: int, ports: int = 80) -> PolicyRow:
    return PolicyRow(
        tuple(
            RuleRow(
                "Allow",
                Origin("GlobalNetworkPolicy", "default", "", f"policy-{number}", "ingress", index),
                protocol=6,
                source=Side(sets=(f"s:{(number + index) % SETS}",)),
                destination=Side(ports=((ports + index, ports + index),)),
            )
            for index in range(RULES)
        ),
        (),
    )


def endpoint(number: int) -> tuple[EndpointId, EndpointRow]:
    policies = tuple(policy(number * EACH % POLICIES + place) for place in range(EACH))
    row = EndpointRow(f"cali{number}", (), (TierRow("default", "Deny", policies),), (), ("kns.default",))
    return EndpointId("WorkloadEndpoint", "default", f"w{number}"), row


def member(number: int) -> SetMember:
    return SetMember(f"s:{number % SETS}", Cidr(4, (10 << 24) + number, 32))


def everything() -> Delta:
    return Delta(
        set_infos={f"s:{number}": SetInfo("net", f"app == '{number}'") for number in range(SETS)},
        set_members={member(number): True for number in range(SETS * MEMBERS)},
        policies={policy(number): rules(number) for number in range(POLICIES)},
        profiles={"kns.default": PolicyRow((), ())},
        endpoints=dict(endpoint(number) for number in range(ENDPOINTS)),
    )


def measured(work: Callable[[int], object], times: int) -> float:
    """The median, in milliseconds."""
    took = []
    for number in range(times):
        gc.collect()
        start = time.perf_counter()
        work(number)
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


def main() -> None:
    load = everything()
    rows = [("load all", measured(lambda _: Renderer(Settings()).update(load), 3))]
    renderer = Renderer(Settings())
    renderer.update(load)
    steps: dict[str, Callable[[int], Delta]] = {
        "10 members join a set": lambda n: Delta(
            set_members={SetMember("s:1", Cidr(4, (11 << 24) + n * 10 + i, 32)): True for i in range(10)}
        ),
        "a prefix joins a set (its chains are rendered again)": lambda n: Delta(
            set_members={SetMember("s:2", Cidr(4, 12 << 24, 8)): True if n % 2 == 0 else None}
        ),
        "a policy changes": lambda n: Delta(policies={policy(7): rules(7, 1000 + n)}),
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
        rows.append((name, measured(lambda n, step=step: renderer.update(step(n)), 20)))
    print(
        f"Rendering, both families: {POLICIES} policies of {RULES} rules, {ENDPOINTS} endpoints, {SETS} sets of {MEMBERS}\n"
    )
    print("| update | ms |\n|---|--:|")
    for name, milliseconds in rows:
        print(f"| {name} | {milliseconds:.3f} |")


if __name__ == "__main__":
    main()
