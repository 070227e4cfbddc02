"""What the text of bird.conf says, beyond the golden files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from calico.bgp.bird import render
from calico.model.bgp import BGPPassword, SecretKeyRef
from support.speakers import configuration, node, peer, pool, speaker

BIRD = shutil.which("bird", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
needs_bird = pytest.mark.skipif(BIRD is None, reason="needs BIRD 2 (package bird2)")

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
    assert "if net ~ [ 10.65.0.0/16+ ] then accept;" in lines


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


@needs_bird
def test_bird_accepts_a_node_without_anything(tmp_path: Path) -> None:
    """A node that BGP knows nothing of still has a valid configuration, for its kernel routes."""
    assert accepted(render(speaker("nobody")), tmp_path) == ""
