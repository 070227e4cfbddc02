"""What the text of bird.conf says, beyond the golden files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calico.bgp.bird import render
from calico.model.bfd import BFDConfiguration, BFDConfigurationSpec, BFDInterface
from calico.model.bgp import BGPPassword, SecretKeyRef
from calico.model.resource import Metadata, Resource
from support.speakers import configuration, node, peer, pool, route_filter, speaker

BIRD = shutil.which("bird", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
needs_bird = pytest.mark.skipif(BIRD is None, reason="needs BIRD 2 (package bird2)")

POOLS = (pool("v4", "10.65.0.0/16"), pool("v6", "fd65::/48"))
SECRET = SecretKeyRef(name="bgp", key="rack")
A = node("a", "10.0.0.1", "fd00::1")
B = node("b", "10.0.0.2", "fd00::2")


def accepted(text: str, directory: Path) -> str:
    """BIRD's complaint about ``text``; nothing if it is content."""
    assert BIRD is not None
    file = directory / "bird.conf"
    file.write_text(text)
    done = subprocess.run([BIRD, "-p", "-c", file], check=False, capture_output=True, text=True, timeout=10)
    return done.stderr if done.returncode else ""


def test_order_of_facts_does_not_show() -> None:
    """The same facts in another order give the same text."""
    facts = (A, B, pool("p", "10.65.0.0/16"), pool("q", "10.66.0.0/16"))

    assert render(speaker("a", *facts, blocks=("10.65.0.0/26", "10.65.1.0/26"))) == render(
        speaker("a", *reversed(facts), blocks=("10.65.1.0/26", "10.65.0.0/26"))
    )


def test_single_address_block_has_no_blackhole() -> None:
    """A block of one address is announced, and never a blackhole: that would be the workload's own route."""
    text = render(speaker("a", A, pool("p", "10.65.0.0/16", block_size=32), blocks=("10.65.0.7/32",)))

    assert "blackhole" not in text
    assert "if net ~ [ 10.65.0.7/32 ] then accept;" in text


def test_session_without_its_password_stays_down() -> None:
    """A session that asks for a password is disabled until the password is known."""
    rack = peer("rack", peer_ip="10.0.0.254", as_number=65001, password=BGPPassword(secret_key_ref=SECRET))
    planned = speaker("a", A, rack)

    assert "disabled;" in render(planned)
    known = render(planned, passwords={SECRET: "s3cret!"})
    assert 'password "s3cret!";' in known
    assert "disabled;" not in known
    assert "disabled;" in render(planned, passwords={SECRET: 'quo"te'})


@pytest.mark.parametrize(
    ("world", "sessions"),
    [
        ((peer("rack", peer_ip="10.0.0.254", as_number=65001, password=BGPPassword()),), 1),
        ((B, configuration(node_mesh_password=BGPPassword())), 2),
    ],
)
def test_password_that_is_kept_nowhere_is_missing(world: tuple[Resource, ...], sessions: int) -> None:
    """A password without a reference was wanted all the same: the sessions stay down."""
    assert render(speaker("a", A, *world)).count("  disabled;") == sessions


@needs_bird
def test_longest_names_are_symbols(tmp_path: Path) -> None:
    """The longest address with the longest port, and filters with names of any length, are not too long for BIRD."""
    address = ":".join(["2001", *["1234"] * 7])
    filters = ("x" * 45, "x" * 46, "x" * 253)
    peers = [
        peer(f"p{port}", peer_ip=f"[{address}]:{port}", as_number=65001, filters=list(filters))
        for port in (65534, 65535)
    ]

    text = render(speaker("a", A, *peers, *map(route_filter, filters)))

    assert text.count("\nprotocol bgp ") == 2
    assert accepted(text, tmp_path) == ""


@needs_bird
@pytest.mark.parametrize("password", ["a'b#;{}\\", "}; /* x", "\u00e9" * 40, "x" * 80])
def test_odd_passwords_are_said_as_they_are(tmp_path: Path, password: str) -> None:
    """What is not left out is nothing special within quotes."""
    rack = peer("rack", peer_ip="10.0.0.254", as_number=65001, password=BGPPassword(secret_key_ref=SECRET))

    text = render(speaker("a", A, rack), passwords={SECRET: password})

    assert f'  password "{password}";\n' in text
    assert accepted(text, tmp_path) == ""


def test_text_of_others_cannot_break_out() -> None:
    """Names and patterns that hold quotes or line ends cannot write configuration."""
    evil = node('x"; }\nprotocol static {', "10.0.0.9")
    ignored = configuration(ignored_interfaces=['a"\n; b'])

    text = render(speaker("a", A, evil, ignored))

    assert [line for line in text.splitlines() if line.startswith("protocol static")] == [
        "protocol static blocks4 {",
        "protocol static blocks6 {",
    ]
    assert 'description "NodeMesh x; }protocol static {";' in text
    assert '-"a; b"' in text


def test_pools_hidden_and_shown_are_told_apart() -> None:
    """Hidden pools are rejected before anything is accepted."""
    text = render(
        speaker(
            "a",
            A,
            pool("hidden", "10.66.0.0/16", disable_bgp_export=True),
            pool("shown", "10.65.0.0/16"),
            blocks=("10.66.0.0/26",),
        )
    )

    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("if net ~ [ 10.66.0.0/16+ ] then reject;") < lines.index(
        "if net ~ [ 10.66.0.0/26 ] then accept;"
    )
    assert any(line.startswith("if net ~ [ 10.65.0.0/16{32,32} ] && ") for line in lines)


@needs_bird
def test_bird_accepts_every_setting(tmp_path: Path) -> None:
    """All that a peer, a node and the configuration can ask for is BIRD's language."""
    settings = (
        {"next_hop_mode": "Self"},
        {"next_hop_mode": "Keep"},
        {"source_address": "None"},
        {"ttl_security": 1},
        {"ttl_security": 255},
        {"num_allowed_local_as_numbers": 3},
        {"keepalive_time": "20s", "max_restart_time": "60s"},
        {"local_as_number": 65100},
        {"password": BGPPassword(secret_key_ref=SECRET)},
    )
    peers = [
        peer(f"p{last}-{as_number}", peer_ip=f"{network}{last}", as_number=as_number, **spec)
        for last, spec in enumerate(settings, start=1)
        for network, as_number in (("10.1.0.", 65001), ("fd00:1::", "1.1"))
    ]
    facts = (
        node("a", "10.0.0.1", "fd00::1", as_number="1.1", cluster_id="1.0.0.1"),
        configuration(bind_mode="NodeIP", ignored_interfaces=["docker*"], listen_port=1790),
        *peers,
        peer("far-4", peer_ip="10.2.0.1", as_number=65001, reachable_by="10.0.0.7"),
        peer("far-6", peer_ip="fd00:2::1", as_number=65001, reachable_by="fd00::7"),
    )
    planned = speaker("a", *facts, pool("p", "10.65.0.0/16"), blocks=("10.65.0.0/26", "fd65::/122"))

    assert planned.problems == ()
    assert len(planned.sessions) == 20
    assert accepted(render(planned, passwords={SECRET: "pw"}), tmp_path) == ""
    assert accepted(render(planned, interface_prefix=("cali", "tap")), tmp_path) == ""


NUMBERS = st.integers(min_value=-2, max_value=70000)
ADDRESSES = st.sampled_from(
    [
        "10.0.0.1",
        "10.0.0.9",
        "10.0.0.9:1790",
        "[2001:1234:1234:1234:1234:1234:1234:1234]:65535",
        "0.0.0.0",
        "224.0.0.1",
        "127.0.0.1",
        "255.255.255.255",
        "169.254.0.9",
        "fd00::9",
        "[fd00::9]:179",
        "fe80::9",
        "::",
        "::1",
        "ff02::1",
        "::ffff:10.0.0.9",
    ]
)
DURATIONS = st.sampled_from(["", "0s", "1s", "90s", "2m", "5000s", "70000s", "1h", "x"])
PEERS = st.fixed_dictionaries(
    {"peer_ip": ADDRESSES, "as_number": st.sampled_from([0, 1, 64512, "1.1", 4294967295, 23456])},
    optional={
        "local_as_number": st.sampled_from([0, 65100, "65000.65000"]),
        "next_hop_mode": st.sampled_from(["Auto", "Self", "Keep"]),
        "source_address": st.sampled_from(["UseNodeIP", "None"]),
        "max_restart_time": DURATIONS,
        "keepalive_time": DURATIONS,
        "num_allowed_local_as_numbers": NUMBERS,
        "ttl_security": st.sampled_from([-1, 0, 1, 254, 255, 256]),
        "reachable_by": ADDRESSES,
        "password": st.sampled_from([BGPPassword(secret_key_ref=SECRET), BGPPassword()]),
        "failure_detection_mode": st.just("BFDIfDirectlyConnected"),
        "filters": st.lists(st.sampled_from(["f", "g.h-i", "x" * 60, "\u00fc", 'a"b', ""]), max_size=3),
    },
)
INTERFACES = st.fixed_dictionaries(
    {"peer_interface": st.sampled_from(["eth0", "bond0.100", "br-x", "eth 0", "", 'e"'])},
    optional={
        "as_number": st.sampled_from([0, 1, 64512]),
        "failure_detection_mode": st.just("BFDIfDirectlyConnected"),
        "ttl_security": st.sampled_from([0, 1, 255]),
        "password": st.just(BGPPassword(secret_key_ref=SECRET)),
        "next_hop_mode": st.sampled_from(["Auto", "Self", "Keep"]),
    },
)
TIMING = st.fixed_dictionaries(
    {"match_pattern": st.text(max_size=5)},
    optional={
        "minimum_recv_interval": st.sampled_from(["0ms", "1ms", "10us", "1h", "71m", "x"]),
        "multiplier": NUMBERS,
    },
)


@needs_bird
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(PEERS | INTERFACES, max_size=8),
    st.lists(TIMING, max_size=2),
    st.fixed_dictionaries(
        {},
        optional={
            "listen_port": NUMBERS,
            "bind_mode": st.sampled_from(["NodeIP", "None"]),
            "ignored_interfaces": st.lists(st.text(max_size=4), max_size=2),
            "node_mesh_max_restart_time": DURATIONS,
        },
    ),
    st.sampled_from(["", "0.0.0.0", "1.0.0.1", "255.255.255.255"]),
    st.text(max_size=12),
    st.text(max_size=12),
)
def test_nothing_that_is_planned_is_refused(
    tmp_path: Path,
    specs: list[dict[str, Any]],
    timing: list[dict[str, Any]],
    general: dict[str, Any],
    cluster: str,
    name: str,
    pw: str,
) -> None:
    """However odd the intent, one bad peer never makes BIRD refuse the whole configuration."""
    peers = [peer(f"p{index}", **spec) for index, spec in enumerate(specs)]
    own = node("a", "10.0.0.1", "fd00::1", cluster_id=cluster)
    watched = BFDConfiguration(
        metadata=Metadata(name="bfd"),
        spec=BFDConfigurationSpec(interfaces=[BFDInterface(**each) for each in timing]),
    )
    there = node(f"b{name}", "10.0.0.3", "fd00::3")
    more = (route_filter("f"), route_filter("x" * 60), watched)
    routers = {"eth0": "fe80::1", "bond0.100": "fe80::1", "br-x": "fe80::2"}
    planned = speaker("a", own, there, configuration(**general), *peers, *more, *POOLS, routers=routers)

    assert accepted(render(planned, passwords={SECRET: pw}), tmp_path) == ""


@needs_bird
def test_bird_accepts_a_node_without_anything(tmp_path: Path) -> None:
    """A node that BGP knows nothing of still has a valid configuration, for its kernel routes."""
    assert accepted(render(speaker("nobody")), tmp_path) == ""
