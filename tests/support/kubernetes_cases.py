"""Kubernetes network policy cases of others, as documents and expectations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

CASES = Path(__file__).parents[3] / "shared" / "conformance" / "policy"


class Probe(NamedTuple):
    """One question of a case: may ``source`` reach ``destination``?"""

    source: str
    destination: str
    protocol: str
    port: int
    expected: bool


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of one file; none where the cases are not here."""
    path = CASES / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def documents(step: dict[str, Any], protocols: list[str], ports: list[int]) -> list[dict[str, Any]]:
    """The Kubernetes objects of a step; every pod serves all ports under the names ``serve-<port>-<protocol>``."""
    served = [
        {"name": f"serve-{port}-{protocol.lower()}", "containerPort": port, "protocol": protocol}
        for port in ports
        for protocol in protocols
    ]
    namespaces = step["namespaces"]
    if isinstance(namespaces, dict):
        namespaces = [{"name": name, "labels": labels} for name, labels in namespaces.items()]
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": each["name"], "labels": each["labels"]},
        }
        for each in namespaces
    ]
    made += [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod["name"], "namespace": pod["namespace"], "labels": pod["labels"]},
            "spec": {"nodeName": "node", "containers": [{"name": "serve", "ports": served}]},
            "status": {"phase": "Running", "podIP": pod["ip"], "podIPs": [{"ip": pod["ip"]}]},
        }
        for pod in step["pods"]
    ]
    policies = step["policies"] or []
    return made + list(policies.values() if isinstance(policies, dict) else policies)


def matrix(order: list[str], table: list[str], protocol: str, port: int) -> Iterator[Probe]:
    """The questions of one truth table; a pod to itself is none."""
    for source, row in zip(order, table, strict=True):
        for destination, mark in zip(order, row, strict=True):
            if source != destination and mark in ".X":
                yield Probe(source, destination, protocol, port, mark == ".")
