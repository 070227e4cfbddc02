"""Kernel settings in a real network namespace."""

from __future__ import annotations

import pytest

from calico.programming.sysctl import Sysctls
from support.netns import Namespace, namespaces, needs_root

pytestmark = [pytest.mark.root, needs_root]


def outcomes(inside: Namespace) -> list[str]:
    return [f"{one.setting.path}: {one.found}" for one in inside.call(Sysctls().prepare_host)]


def test_forwarding_is_switched_on_once() -> None:
    """The host forwards both families; the second time nothing is different."""
    with namespaces("t-sysctl-a") as (inside,):
        inside.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
        inside.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")

        first, second = outcomes(inside), outcomes(inside)

        assert {"ipv4/ip_forward: 0", "ipv6/conf/all/forwarding: 0"} <= set(first)
        assert second == []
        assert inside.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "1\n"
        assert inside.run("sysctl", "-n", "net.ipv6.conf.all.forwarding").stdout == "1\n"


def test_settings_act_in_the_callers_namespace_only() -> None:
    """What is prepared in one namespace is not in another."""
    with namespaces("t-sysctl-a", "t-sysctl-b") as (one, other):
        for inside in (one, other):
            inside.run("sysctl", "-qw", "net.ipv4.ip_forward=0")

        outcomes(one)

        assert other.run("sysctl", "-n", "net.ipv4.ip_forward").stdout == "0\n"


def test_a_vanished_interface_is_no_error() -> None:
    """Preparing an interface that is gone does nothing."""
    with namespaces("t-sysctl-a") as (inside,):
        assert inside.call(lambda: Sysctls().prepare_workload("cali1")) == []


def test_loose_reverse_path_filtering_is_warned_of() -> None:
    """all/rp_filter=2, which overrides each interface's own, is named with what to do."""
    with namespaces("t-sysctl-a") as (inside,):
        inside.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        assert inside.call(lambda: Sysctls().warnings()) == []

        inside.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=2")
        (warned,) = inside.call(lambda: Sysctls().warnings())

        assert warned.path == "ipv4/conf/all/rp_filter"
        assert warned.found == "2"
        assert "net.ipv4.conf.all.rp_filter" in warned.sentence
