"""How fast a world answers: 1,000 pods on 40 nodes, 300 policies, 1,000 questions. Markdown table.

As a person's own script would do it: documents as parsed from YAML go in, each question names two pods.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

from calico.analysis import World

NODES, NAMESPACES, APPS = 40, 20, 60


def documents(pods: int, policies: int) -> list[dict[str, Any]]:
    """Namespaces, pods, and policies whose selectors overlap."""
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": f"ns-{number}", "labels": {"team": f"team-{number % 4}"}},
        }
        for number in range(NAMESPACES)
    ]
    made += [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"pod-{number}",
                "namespace": f"ns-{number % NAMESPACES}",
                "labels": {"app": f"app-{number % APPS}", "wave": str(number % 7)},
            },
            "spec": {
                "nodeName": f"node-{number % NODES}",
                "containers": [{"name": "serve", "ports": [{"name": "http", "containerPort": 8080}]}],
            },
            "status": {
                "phase": "Running",
                "podIPs": [{"ip": f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}"}],
            },
        }
        for number in range(pods)
    ]
    made += [
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "NetworkPolicy",
            "metadata": {"name": f"policy-{number}", "namespace": f"ns-{number % NAMESPACES}"},
            "spec": {
                "order": number,
                "selector": f"app in {{'app-{number % APPS}', 'app-{number * 7 % APPS}'}} || wave == '{number % 7}'",
                "ingress": [
                    {
                        "action": "Allow",
                        "protocol": "TCP",
                        "source": {
                            "selector": f"app == 'app-{(number + place) * 3 % APPS}'",
                            "namespaceSelector": f"team == 'team-{place}'",
                        },
                        "destination": {"ports": [80, "http"]},
                    }
                    for place in range(4)
                ],
            },
        }
        for number in range(policies)
    ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=1000)
    parser.add_argument("--policies", type=int, default=300)
    parser.add_argument("--questions", type=int, default=1000)
    options = parser.parse_args()
    given = documents(options.pods, options.policies)
    pods = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in given
        if each["kind"] == "Pod"
    ]
    chance = random.Random(1)
    pairs = [(chance.choice(pods), chance.choice(pods)) for _ in range(options.questions)]

    start = time.perf_counter()
    world = World.load(given)
    loaded = time.perf_counter()
    allowed = sum(
        world.decide(source=source, destination=destination, protocol="TCP", port=8080).allowed
        for source, destination in pairs
    )
    answered = time.perf_counter()

    print(f"{options.pods:,} pods on {NODES} nodes, {options.policies:,} policies; {allowed:,} are allowed\n")
    print("| what | s |\n|---|--:|")
    print(f"| load the world | {loaded - start:.2f} |")
    print(f"| {options.questions:,} questions | {answered - loaded:.2f} |")


if __name__ == "__main__":
    main()
