"""What a lab needs of a machine, checked before anything is made.

In:   the machine.
Out:  sentences, one for each thing that is missing, with what to do about it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

PACKAGES: Final = {
    "ip": "iproute2",
    "bird": "bird2",
    "birdc": "bird2",
}
BACKEND_PACKAGES: Final = {
    "nftables": {"nft": "nftables"},
    "iptables": {"iptables-restore": "iptables", "ipset": "ipset"},
    "iptables-nft": {"iptables-nft-restore": "iptables", "ipset": "ipset"},
    "iptables-legacy": {"iptables-legacy-restore": "iptables", "ipset": "ipset"},
}

ETCD_PACKAGES: Final = {"etcd": "etcd-server"}

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
"""What the back ends ask of the kernel: a feature, and a command that only succeeds where it is there.

``iptables`` stands for the variant that the back end names.
"""
_LINKS: Final[dict[str, tuple[str, ...]]] = {
    "veth pairs (CONFIG_VETH)": (
        *("ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "other"),
    ),
    "bridges (CONFIG_BRIDGE)": ("ip", "link", "add", "name", "switch", "type", "bridge"),
    "IPv6 (CONFIG_IPV6, not disabled)": ("ip", "-6", "addr", "add", "fd00::1/64", "dev", "lo"),
}


def missing(backend: str, *, etcd: bool = False) -> tuple[str, ...]:
    """What this machine lacks for a lab with ``backend``, perhaps on etcd; empty when it lacks nothing."""
    if os.geteuid() != 0:
        return ("root: a lab makes network namespaces; run the command with sudo",)
    return tuple(_tools(backend, etcd=etcd)) or tuple(_kernel(backend))


def _tools(backend: str, *, etcd: bool) -> Iterator[str]:
    needed = {**PACKAGES, **BACKEND_PACKAGES[backend], **(ETCD_PACKAGES if etcd else {})}
    for tool, package in needed.items():
        if shutil.which(tool) is None:
            yield f"{tool}: install it with 'apt-get install {package}'"
    if etcd and find_spec("grpc") is None:
        yield "grpcio: install it with \"pip install 'pycalico[etcd]'\""


def _kernel(backend: str) -> Iterator[str]:
    """Try each feature in a namespace without a name: whatever ends this program, nothing is left of it."""
    said = _refusal("ip", "link")
    if said is not None:
        yield f"network namespaces (CONFIG_NET_NS, CAP_SYS_ADMIN): {said}"
        return
    variant = backend if backend.startswith("iptables") else ""
    for feature, words in {**_LINKS, **_FILTERS[backend.partition("-")[0]]}.items():
        said = _refusal(*(variant if word == "iptables" else word for word in words))
        if said is not None:
            yield f"{feature} in the kernel: {said}"


def _refusal(*words: str) -> str | None:
    """What a program said when it failed in a fresh network namespace; None when it did not."""
    done = subprocess.run(
        ["unshare", "--net", "--", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        # The lock file of iptables, which it would make under /run.
        env={**os.environ, "XTABLES_LOCKFILE": os.devnull},
    )
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"'{' '.join(words)}' failed"])[0]
