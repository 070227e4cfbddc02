"""Rows in, the whole nft text out: one readable file per case in ``golden/nft``.

``GOLDEN=write pytest tests/golden`` writes the files anew; read the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from calico.desired import (
    Delta,
    EndpointId,
    EndpointRow,
    Origin,
    PolicyId,
    PolicyRow,
    PoolRow,
    PortMember,
    RuleRow,
    SetInfo,
    SetMember,
    Side,
    TierRow,
    Tiers,
)
from calico.model.address import Cidr, parse_address, parse_cidr
from calico.model.settings import FailsafePort, Settings
from calico.rendering.renderer import Renderer
from calico.ruleset import nft

FOLDER = Path(__file__).parent / "nft"

FRONT = PolicyId("NetworkPolicy", "shop", "front")
DENY = PolicyId("GlobalNetworkPolicy", "", "deny-all")
ALLOW = PolicyRow(
    (RuleRow("Allow", Origin("Profile", "", "", "kns.shop", "ingress", 0)),),
    (RuleRow("Allow", Origin("Profile", "", "", "kns.shop", "egress", 0)),),
)


def front(index: int, action: str = "Allow", **conditions: object) -> RuleRow:
    origin = Origin("NetworkPolicy", "default", "shop", "front", "ingress", index)
    return RuleRow(action, origin, **conditions)  # type: ignore[arg-type]


def workload(interface: str, **fields: object) -> EndpointRow:
    return EndpointRow(
        **{
            "interface": interface,
            "addresses": (),
            "ingress": (),
            "egress": (),
            "profiles": ("kns.shop",),
            **fields,
        }
    )  # type: ignore[arg-type]


TIERS = (TierRow("security", "Pass", (DENY,)), TierRow("default", "Deny", (FRONT, DENY)))
BOTH_WAYS = Tiers(TIERS, TIERS)

CASES: dict[str, tuple[str, Settings, Delta]] = {
    "nothing": ("A host without endpoints: everything of workloads is closed.", Settings(), Delta()),
    "tiers": (
        "Two workloads with equal policy share their chains; a third has a profile only, a fourth is inactive.",
        Settings(),
        Delta(
            policies={
                FRONT: PolicyRow((front(0, protocol=6, destination=Side(ports=((80, 80), (443, 443)))),), ()),
                DENY: PolicyRow(
                    (
                        RuleRow(
                            "Pass", Origin("GlobalNetworkPolicy", "security", "", "deny-all", "ingress", 0)
                        ),
                    ),
                    (),
                ),
            },
            profiles={"kns.shop": ALLOW},
            endpoints={
                EndpointId("WorkloadEndpoint", "shop", "one"): workload("cali1", ingress=TIERS),
                EndpointId("WorkloadEndpoint", "shop", "two"): workload("cali2", ingress=TIERS),
                EndpointId("WorkloadEndpoint", "shop", "three"): workload("cali3"),
                EndpointId("WorkloadEndpoint", "shop", "four"): workload("cali4", active=False),
            },
        ),
    ),
    "rules": (
        "One policy with every kind of match; nets of both families, sets of each type.",
        Settings(filter_deny_action="Reject", log_prefix="seen"),
        Delta(
            set_infos={
                "s:web": SetInfo("net", "app == 'web'"),
                "s:net": SetInfo("net", "has(net)"),
                "n:http": SetInfo("port", "app == 'web'", "http", 6),
            },
            set_members={
                SetMember("s:web", parse_cidr("10.65.0.1")): True,
                SetMember("s:web", parse_cidr("fd65::1")): True,
                SetMember("s:net", parse_cidr("10.0.0.0/8")): True,
                SetMember("s:net", parse_cidr("10.1.0.0/16")): True,
                SetMember("n:http", PortMember(parse_address("10.65.0.1"), 6, 8080)): True,
            },
            policies={
                FRONT: PolicyRow(
                    (
                        front(0, source=Side(nets=(parse_cidr("10.0.0.0/8"), parse_cidr("192.168.0.0/16")))),
                        front(
                            1, source=Side(nets=(parse_cidr("fd00::/8"),), not_nets=(parse_cidr("10.0.0.1"),))
                        ),
                        front(2, source=Side(sets=("s:web",), not_sets=("s:net",))),
                        front(3, protocol=6, destination=Side(ports=((1, 1024),), port_sets=("n:http",))),
                        front(4, protocol=17, destination=Side(not_ports=((53, 53),))),
                        front(5, protocol=1, icmp=(8, None)),
                        front(6, protocol=58, not_icmp=(128, 0)),
                        front(7, not_protocol=132, ip_version=4),
                        front(8, never=True),
                        front(9, "Log"),
                        front(10, "Pass"),
                        front(11, "Deny"),
                    ),
                    (),
                )
            },
            endpoints={
                EndpointId("WorkloadEndpoint", "shop", "one"): workload(
                    "cali1", ingress=(TierRow("default", "Deny", (FRONT,)),), profiles=()
                )
            },
        ),
    ),
    "merged": (
        "Similar rules are one lookup: addresses with ports, prefixes that are allowed or denied, many small policies.",
        Settings(),
        Delta(
            policies={
                FRONT: PolicyRow(
                    (
                        *(
                            front(
                                n,
                                protocol=6,
                                destination=Side(
                                    nets=(Cidr(4, (10 << 24) + n, 32),), ports=((80 + n, 80 + n),)
                                ),
                            )
                            for n in range(8)
                        ),
                        front(8, protocol=6, source=Side(nets=(parse_cidr("192.0.2.0/24"),))),
                        *(
                            front(
                                9 + n,
                                "Deny" if n % 2 else "Allow",
                                source=Side(nets=(Cidr(4, (11 << 24) + (n << 8), 24),)),
                            )
                            for n in range(16)
                        ),
                    ),
                    (),
                ),
                **{
                    PolicyId("GlobalNetworkPolicy", "", f"small-{n}"): PolicyRow(
                        (
                            RuleRow(
                                "Pass",
                                Origin("GlobalNetworkPolicy", "many", "", f"small-{n}", "ingress", 0),
                                source=Side(nets=(Cidr(4, (12 << 24) + n, 32),)),
                            ),
                        ),
                        (),
                    )
                    for n in range(8)
                },
            },
            endpoints={
                EndpointId("WorkloadEndpoint", "shop", "one"): workload(
                    "cali1",
                    ingress=(
                        TierRow(
                            "many",
                            "Deny",
                            tuple(PolicyId("GlobalNetworkPolicy", "", f"small-{n}") for n in range(8)),
                        ),
                        TierRow("default", "Deny", (FRONT,)),
                    ),
                    profiles=(),
                )
            },
        ),
    ),
    "host": (
        "A named host endpoint, one for all other interfaces, and a pool with outgoing NAT.",
        Settings(
            failsafe_inbound=(FailsafePort(6, 22), FailsafePort(17, 68, parse_cidr("10.0.0.0/8"))),
            failsafe_outbound=(FailsafePort(17, 53),),
            default_endpoint_to_host_action="Return",
            interface_prefix=("cali", "tap"),
        ),
        Delta(
            profiles={"kns.shop": ALLOW},
            endpoints={
                EndpointId("HostEndpoint", "", "named"): workload("eth0", profiles=()),
                EndpointId("HostEndpoint", "", "others"): workload("*"),
            },
            pools={
                parse_cidr("10.65.0.0/16"): PoolRow(nat_outgoing=True),
                parse_cidr("10.66.0.0/16"): PoolRow(nat_outgoing=False),
            },
        ),
    ),
    "host-layers": (
        "Host policy on forwarded, not yet translated and untracked packets; what is denied is refused where it can be.",
        Settings(
            failsafe_inbound=(FailsafePort(6, 22),),
            failsafe_outbound=(FailsafePort(17, 53),),
            filter_deny_action="Reject",
        ),
        Delta(
            policies={
                FRONT: PolicyRow((front(0, protocol=6),), (front(0, protocol=6),)),
                DENY: PolicyRow((front(0, "Deny"),), (front(0, "Deny"),)),
            },
            profiles={"kns.shop": ALLOW},
            endpoints={
                EndpointId("HostEndpoint", "", "named"): workload(
                    "eth0", untracked=BOTH_WAYS, egress=TIERS, profiles=()
                ),
                EndpointId("HostEndpoint", "", "others"): workload(
                    "*", forward=BOTH_WAYS, pre_dnat=Tiers(ingress=TIERS)
                ),
            },
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_would_hold_this(name: str) -> None:
    """The text of both tables is what the file of the case shows."""
    sentence, settings, delta = CASES[name]
    renderer = Renderer(settings)
    renderer.update(delta)
    text = f"# {sentence}\n" + "".join(nft.listing(table) for table in renderer.tables.values())
    file = FOLDER / f"{name}.nft"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()
