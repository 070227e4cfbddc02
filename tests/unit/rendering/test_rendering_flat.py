"""However many rules a policy has, and whatever they exclude, its chains stay within what kernels follow."""

from __future__ import annotations

from calico.desired import Delta, EndpointId, EndpointRow, Origin, PolicyId, PolicyRow, RuleRow, Side, TierRow
from calico.model.settings import Settings
from calico.rendering.renderer import Renderer
from support.nesting import KERNEL_LIMIT, nesting

POLICY = PolicyId("GlobalNetworkPolicy", "", "many")


def test_rules_that_exclude_protocols_do_not_nest() -> None:
    """1,000 rules that exclude several protocols each stand in one flat chain, on both families."""
    rules = tuple(
        RuleRow(
            "Deny",
            Origin("GlobalNetworkPolicy", "default", "", "many", "ingress", number),
            not_protocol=17,
            not_icmp=(8, 0) if number % 2 else (128, 0),
            source=Side(not_ports=((number + 1, number + 1),)),
        )
        for number in range(1000)
    )
    renderer = Renderer(Settings())
    renderer.update(
        Delta(
            policies={POLICY: PolicyRow(rules, ())},
            endpoints={
                EndpointId("WorkloadEndpoint", "ns", f"{number}"): EndpointRow(
                    f"cali{number:011x}", (), (TierRow("default", "Deny", (POLICY,)),), (), ()
                )
                for number in range(300)
            },
        )
    )
    assert 0 < nesting(renderer.tables[4]) < KERNEL_LIMIT - 2
    assert 0 < nesting(renderer.tables[6]) < KERNEL_LIMIT - 2
