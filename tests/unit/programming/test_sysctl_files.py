"""Kernel settings on a fake /proc/sys/net."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.programming.backend import Missing
from calico.programming.sysctl import Sysctls, host_settings, workload_settings


def tree(root: Path, files: dict[str, str]) -> Sysctls:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")
    return Sysctls(root)


def test_the_proxy_delay_comes_before_proxy_arp() -> None:
    """The order in which an interface is set up matters to some kernels."""
    paths = [setting.path for setting in workload_settings("cali1", reverse_path="0")]

    assert paths.index("ipv4/neigh/cali1/proxy_delay") < paths.index("ipv4/conf/cali1/proxy_arp")


def test_router_advertisements_are_refused_without_ipv6_support_too() -> None:
    """accept_ra=0 is a protection, not a feature of IPv6 support; nothing else of IPv6 is set without it."""
    settings = workload_settings("cali1", reverse_path="0", ipv6=False)

    assert [s.path for s in settings if s.path.startswith("ipv6")] == ["ipv6/conf/cali1/accept_ra"]


def test_equal_values_are_not_written(tmp_path: Path) -> None:
    """A setting that has its value already is left alone, and what differed is reported with what it was."""
    files = {setting.path: setting.value for setting in host_settings()}
    files["ipv4/ip_forward"] = "0"
    sysctls = tree(tmp_path, files)
    for path in files:
        (tmp_path / path).chmod(0o444 if path != "ipv4/ip_forward" else 0o644)

    assert [(one.setting.path, one.found, one.problem) for one in sysctls.prepare_host()] == [
        ("ipv4/ip_forward", "0", "")
    ]
    assert sysctls.read("ipv4/ip_forward") == "1"
    assert sysctls.prepare_host() == []


def test_the_hosts_reverse_path_default_is_copied(tmp_path: Path) -> None:
    """An interface's rp_filter becomes the default for new interfaces."""
    sysctls = tree(tmp_path, {"ipv4/conf/default/rp_filter": "1", "ipv4/conf/cali1/rp_filter": "2"})

    sysctls.prepare_workload("cali1")

    assert sysctls.read("ipv4/conf/cali1/rp_filter") == "1"


def test_a_host_that_cannot_forward_is_an_error(tmp_path: Path) -> None:
    """Without the forwarding setting nothing works; the error names the file. Accounting is only nice to have."""
    sysctls = tree(tmp_path, {"ipv6/conf/all/forwarding": "1"})

    with pytest.raises(Missing, match="ip_forward"):
        sysctls.prepare_host()

    assert tree(tmp_path, {"ipv4/ip_forward": "0"}).prepare_host() != []


def test_host_interfaces_that_stop_listening_are_warned_of(tmp_path: Path) -> None:
    """A host interface with accept_ra=1 ignores advertisements once the host forwards; 2 and 0 are deliberate."""
    sysctls = tree(
        tmp_path, {f"ipv6/conf/eth{value}/accept_ra": value for value in ("0", "1", "2")} | {"ipv4/x": "1"}
    )

    warned = sysctls.warnings(["eth0", "eth1", "eth2", "gone"])

    assert [one.path for one in warned] == ["ipv6/conf/eth1/accept_ra"]
    assert "net.ipv6.conf.eth1.accept_ra=2" in warned[0].sentence
