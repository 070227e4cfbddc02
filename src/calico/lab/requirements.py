"""What a lab needs of a machine, checked before anything is made.

In:   the machine.
Out:  sentences, one for each thing that is missing, with what to do about it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Final

PACKAGES: Final = {
    "ip": "iproute2",
    "bird": "bird2",
    "birdc": "bird2",
}
BACKEND_PACKAGES: Final = {
    "nftables": {"nft": "nftables"},
    "iptables": {"iptables-restore": "iptables", "ipset": "ipset"},
}

_RULES: Final = (
    "add table ip t; add chain ip t c { type filter hook prerouting priority -300; }; add rule ip t c "
)
_FILTERS: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "nftables": {
        "nftables with verdict maps (CONFIG_NF_TABLES)": (
            "nft",
            _RULES + "ip protocol vmap { tcp : accept }",
        ),
        "connection tracking for nftables (CONFIG_NFT_CT)": ("nft", _RULES + "ct state established accept"),
        "reverse-path lookups for nftables (CONFIG_NFT_FIB_IPV4)": (
            "nft",
            _RULES + "fib saddr . iif oif missing drop",
        ),
    },
    "iptables": {
        "ipset with hash:net (CONFIG_IP_SET_HASH_NET)": ("ipset", "create", "t", "hash:net"),
        "connection tracking for iptables (CONFIG_NETFILTER_XT_MATCH_CONNTRACK)": (
            *("iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"),
        ),
        "reverse-path filter for iptables (CONFIG_IP_NF_MATCH_RPFILTER)": (
            *("iptables", "-t", "raw", "-A", "PREROUTING", "-m", "rpfilter", "--invert", "-j", "DROP"),
        ),
    },
}
"""What the back ends ask of the kernel: a feature, and a command that only succeeds where it is there."""


def missing(backend: str) -> tuple[str, ...]:
    """What this machine lacks for a lab with ``backend``; empty when it lacks nothing."""
    if os.geteuid() != 0:
        return ("root: a lab makes network namespaces; run the command with sudo",)
    tools = tuple(_tools(backend))
    if any(tool.startswith("ip:") for tool in tools):
        return tools
    return (*tools, *_kernel(backend))


def _tools(backend: str) -> Iterator[str]:
    wanted = {**PACKAGES, **BACKEND_PACKAGES[backend.partition("-")[0]]}
    for tool, package in wanted.items():
        if shutil.which(tool, path=_path()) is None:
            yield f"{tool}: install it with 'apt-get install {package}'"


def _path() -> str:
    """PATH, with the directories of a root shell."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def _kernel(backend: str) -> Iterator[str]:
    """Try each feature in a namespace that is gone afterwards."""
    name = f"calico-try-{uuid.uuid4().hex[:8]}"
    try:
        said = _refusal("ip", "netns", "add", name)
        if said is not None:
            yield f"network namespaces (CONFIG_NET_NS, CAP_SYS_ADMIN): {said}"
            return
        tries = {
            "veth pairs (CONFIG_VETH)": ("link", "add", "one", "type", "veth", "peer", "name", "other"),
            "bridges (CONFIG_BRIDGE)": ("link", "add", "switch", "type", "bridge"),
            "IPv6 (CONFIG_IPV6, not disabled)": ("-6", "addr", "add", "fd00::1/64", "dev", "lo"),
        }
        for feature, words in tries.items():
            said = _refusal("ip", "-n", name, *words)
            if said is not None:
                yield f"{feature} in the kernel: {said}"
        for feature, words in _FILTERS[backend.partition("-")[0]].items():
            if shutil.which(words[0], path=_path()):
                said = _refusal("ip", "netns", "exec", name, *words)
                if said is not None:
                    yield f"{feature} in the kernel: {said}"
    finally:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False, timeout=30)


def _refusal(*words: str) -> str | None:
    """What a program said when it failed; None when it did not."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"'{' '.join(words)}' failed"])[0]
