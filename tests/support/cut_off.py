"""Three members of etcd, one of which lives in another network namespace and is cut off by a firewall.

Run in a namespace, with arguments: a directory for data, the other namespace, how this one's interface to it is
called, and from whom the member in use is cut off: ``everybody`` or ``members``.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from calico.datastore.etcd import EtcdStore
from support.etcd import Cluster, soon
from support.following import traffic

HERE, THERE = "10.99.0.1", "10.99.0.2"
"""The addresses of the two namespaces."""

PATIENCE = 60.0
"""How many seconds the clients may take to go on; the kernel would try for minutes."""


def cutting(cluster: Cluster, interface: str, cut: str) -> str:
    """Rules that drop what shall not pass; nobody is told."""
    peers = ", ".join(str(member.peer_port) for member in cluster.members)
    packets = "" if cut == "everybody" else f"tcp dport {{ {peers} }}"
    answers = "" if cut == "everybody" else f"tcp sport {{ {peers} }}"
    return f"""
    table ip cut {{
        chain in {{
            type filter hook input priority 0; policy accept;
            iifname {interface} {packets} drop
            iifname {interface} {answers} drop
        }}
        chain out {{
            type filter hook output priority 0; policy accept;
            oifname {interface} {packets} drop
            oifname {interface} {answers} drop
        }}
    }}
    """


def firewall(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


async def scenario(cluster: Cluster, interface: str, cut: str) -> None:
    reading, writing = (EtcdStore(cluster.settings(), pick=lambda count: 0) for _ in range(2))
    async with traffic(reading, writing) as (reader, writer):
        firewall(cutting(cluster, interface, cut))
        target, revision = writer.written + 50, reader.status.revision + 50

        async def moved() -> bool:
            return writer.written >= target and reader.status.revision >= revision

        await soon(moved, within=PATIENCE)
        assert reader.status.losses == 0, reader.status.error
        firewall("delete table ip cut")
        await asyncio.to_thread(cluster.wait)
    await reading.close()
    await writing.close()
    print(f"longest pause of the writer: {writer.longest:.1f} s, {writer.unknown} writes of unknown fate")


def main() -> None:
    directory, namespace, interface, cut = sys.argv[1:]
    made = Cluster.make(Path(directory), 3, addresses=(THERE, HERE, HERE))
    made.members[0].inside = ("ip", "netns", "exec", namespace)
    with made:
        asyncio.run(scenario(made, interface, cut))


if __name__ == "__main__":
    main()
