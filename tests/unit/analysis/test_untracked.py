"""Warnings of policies before connection tracking that an endpoint for all interfaces ignores."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.analysis.lint import warnings
from calico.calculation.automatic import CREATED_BY, CREATOR
from calico.model.errors import dotted
from calico.model.resource import Resource
from support.builders import host_endpoint, policy, rule
from support.calicoctl import calicoctl_in

ALL = host_endpoint("all", interface="*", labels={"role": "edge"}, profiles=["projectcalico-default-allow"])
NAMED = host_endpoint("eth0", interface="eth0", labels={"role": "edge"})


def raw(selector: str = "role == 'edge'", *, do_not_track: bool = True) -> Resource:
    return policy(
        "raw", namespace=None, selector=selector, apply_on_forward=True, do_not_track=do_not_track,
        types=["Ingress"], ingress=[rule("Deny", protocol="TCP")],
    )  # fmt: skip


def found(*resources: Resource, stored: tuple[Resource, ...] = ()) -> list[str]:
    """The warnings of the last resource: path and message."""
    return [f"{dotted(each.path)}: {each.message}" for each in warnings(resources, stored)[-1]]


def test_a_policy_that_is_ignored_is_warned_of() -> None:
    """Where the endpoint is among what is written, and where it is stored."""
    sentence = (
        "spec.doNotTrack: the policy has no effect on HostEndpoint all, for all interfaces (interfaceName '*'): "
        "policy before connection tracking needs an interface of its own"
    )
    assert found(ALL, NAMED, raw()) == [sentence]
    assert found(raw(), stored=(ALL, NAMED)) == [sentence]
    assert found(raw("")) == []
    assert found(raw(""), stored=(ALL,)) == [sentence]


def test_an_endpoint_that_ignores_a_policy_is_warned_of() -> None:
    """Whoever comes second is told."""
    assert found(raw(), ALL) == [
        "spec.interfaceName: GlobalNetworkPolicy raw with doNotTrack has no effect on an endpoint for all interfaces"
    ]
    assert found(ALL, stored=(raw(),)) != []
    assert found(NAMED, stored=(raw(),)) == []


@pytest.mark.parametrize(
    "silent",
    [
        (NAMED, raw()),
        (ALL, raw("role == 'core'")),
        (ALL, raw(do_not_track=False)),
        (host_endpoint("all", interface="*", labels={"role": "edge"}, profiles=["gives-labels"]), raw()),
        (ALL, raw("has(projectcalico.org/namespace)")),
    ],
)
def test_near_misses_are_silent(silent: tuple[Resource, ...]) -> None:
    """Other interfaces, other labels, other hooks, and labels that a profile may give."""
    assert found(*silent) == []


def test_many_endpoints_are_counted() -> None:
    """As with automatic ones, of which there is one for each node."""
    many = [
        host_endpoint(f"n{number}-auto-hep", interface="*", labels={CREATED_BY: CREATOR})
        for number in range(9)
    ]
    (sentence,) = found(*many, raw(f"has({CREATED_BY})"))
    assert "HostEndpoint n0-auto-hep, n1-auto-hep, n2-auto-hep and 6 more, for all" in sentence


MANIFEST = """
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: all}
spec: {node: one, interfaceName: '*'}
"""
POLICY = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: raw}
spec: {doNotTrack: true, applyOnForward: true, types: [Ingress], ingress: [{action: Deny}]}
"""


@pytest.mark.parametrize(
    "order", [(MANIFEST, POLICY), (POLICY, MANIFEST)], ids=["policy last", "endpoint last"]
)
def test_apply_and_validate_warn(
    order: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the stored resources, and with those of the same files; and what is warned of is done."""
    run = calicoctl_in(tmp_path, monkeypatch)
    files = []
    for number, text in enumerate(order):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        files.append(str(file))

    first = run("apply", "-f", files[0])
    second = run("apply", "-f", files[1])
    both = run("validate", "-f", files[0], "-f", files[1])

    assert "warning" not in first.stderr
    assert "no effect on" in second.stderr
    assert (first.exit_code, second.exit_code, both.exit_code) == (0, 0, 0)
    assert both.stderr.count("no effect on") == 2
