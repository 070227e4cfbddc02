"""BIRD's configuration, from what a node should do in BGP.

In:   ``Speaker``, planned by ``bgp.sessions``.
Out:  the text of ``bird.conf`` for BIRD 2, one daemon for IPv4 and IPv6; equal speakers give equal text.
Next: ``bgp.daemon`` lets BIRD check it, then loads it.

A workload's address is announced once: within its block by the host that holds the block, or by
itself where the block is another host's. Nothing outside the pools is announced, and a host
passes on what it learned from others only as a route reflector (behaviour reference 6.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from calico.bgp.speaker import Session, Speaker
from calico.model.address import WIDTH, Cidr, Family
from calico.model.bgp import SecretKeyRef

RECOVERY_SECONDS: Final = 20
"""How long a restarted BIRD waits for its peers before it takes away kernel routes that nobody announced again."""

_FAMILIES: Final[tuple[Family, ...]] = (4, 6)

_NO_PASSWORDS: Final[Mapping[SecretKeyRef, str]] = {}


def render(
    speaker: Speaker,
    *,
    interface_prefix: Sequence[str] = ("cali",),
    passwords: Mapping[SecretKeyRef, str] = _NO_PASSWORDS,
) -> str:
    """The text of ``bird.conf``.

    ``interface_prefix`` is how the interfaces of workloads begin. A session whose password is not among
    ``passwords`` is written but disabled: it must not come up without the protection that was asked for.
    """
    workloads = [f"{prefix}*" for prefix in interface_prefix]
    sections = (
        _general(speaker),
        _interfaces(speaker, workloads),
        *(_family(speaker, family, workloads) for family in _FAMILIES),
        _template(),
        *(_session(session, speaker, passwords) for session in speaker.sessions),
    )
    return "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def _general(speaker: Speaker) -> Iterator[str]:
    yield f"# BGP of {_word(speaker.node)}. Written by the Calico agent; edits are overwritten."
    yield ""
    yield f"router id {speaker.router_id};"
    yield 'timeformat protocol "%Y-%m-%dT%H:%M:%S";'
    yield "# After a restart, a peer that stays away must not hold up the others for long."
    yield f"graceful restart wait {RECOVERY_SECONDS};"


def _interfaces(speaker: Speaker, workloads: Iterable[str]) -> Iterator[str]:
    excluded = [*workloads, "kube-ipvs*", *speaker.ignored_interfaces]
    yield "protocol device {"
    yield "  scan time 2;"
    yield "}"
    yield ""
    yield "# Connected networks resolve next hops; they go neither to the kernel nor to peers."
    yield "protocol direct {"
    yield "  ipv4;"
    yield "  ipv6;"
    yield f"  interface {', '.join(f'-{_quoted(pattern)}' for pattern in excluded)}, {_quoted('*')};"
    yield "  check link;"
    yield "}"


def _family(speaker: Speaker, family: Family, workloads: Sequence[str]) -> Iterator[str]:
    blocks = [block for block in speaker.blocks if block.family == family]
    yield f"# ---- IPv{family} ----"
    yield ""
    yield "# What is not assigned in our blocks goes nowhere, rather than back to where it came from."
    yield f"protocol static blocks{family} {{"
    yield f"  ipv{family};"
    yield from (f"  route {block} blackhole;" for block in blocks if not block.is_address)
    yield "}"
    yield ""
    gateways = sorted(
        {
            (session.peer, session.gateway)
            for session in speaker.sessions
            if session.gateway and session.peer.family == family
        }
    )
    if gateways:
        yield "# Peers behind a gateway."
        yield f"protocol static gateways{family} {{"
        yield f"  ipv{family};"
        yield from (f"  route {peer} via {gateway.address};" for peer, gateway in gateways)
        yield "}"
        yield ""
    yield from _kernel(speaker, family, workloads)
    yield ""
    yield from _export(speaker, family, blocks, workloads)


def _kernel(speaker: Speaker, family: Family, workloads: Sequence[str]) -> Iterator[str]:
    yield f"filter from_kernel{family} {{"
    yield "  # A workload that is here stays here, whoever else announces its address."
    yield from (f"  if ifname ~ {_quoted(pattern)} then preference = 200;" for pattern in workloads)
    yield "  accept;"
    yield "}"
    yield ""
    yield f"filter to_kernel{family} {{"
    yield "  if source = RTS_DEVICE then reject;"
    if address := speaker.address(family):
        yield "  # The host's own traffic comes from its node address."
        yield f"  if source = RTS_BGP then krt_prefsrc = {address.address};"
    yield "  accept;"
    yield "}"
    yield ""
    yield f"protocol kernel kernel{family} {{"
    yield "  learn;                 # routes to workloads, written by the agent"
    yield "  persist;               # routes stay when BIRD exits,"
    yield "  graceful restart;      # and until it knows better after a restart"
    yield "  scan time 2;"
    yield "  merge paths on;        # equal paths are used side by side"
    yield f"  ipv{family} {{"
    yield f"    import filter from_kernel{family};"
    yield f"    export filter to_kernel{family};"
    yield "  };"
    yield "}"


def _export(
    speaker: Speaker, family: Family, blocks: Sequence[Cidr], workloads: Sequence[str]
) -> Iterator[str]:
    pools = [pool for pool in speaker.pools if pool.cidr.family == family]
    hidden = [f"{pool.cidr}+" for pool in pools if not pool.exported]
    shown = [pool.cidr for pool in pools if pool.exported]
    inner = [f"{block}{{{block.length + 1},{WIDTH[family]}}}" for block in blocks if not block.is_address]
    yield f"filter to_peers{family} {{"
    if not speaker.reflector:
        yield "  # Only a route reflector passes on what it learned."
        yield "  if source = RTS_BGP then reject;"
    if hidden:
        yield "  # Pools with disableBGPExport."
        yield f"  if net ~ {_set(hidden)} then reject;"
    if blocks:
        yield "  # Our blocks go out whole;"
        yield f"  if net ~ {_set(map(str, blocks))} then accept;"
    if inner:
        yield "  # addresses inside them need no route of their own."
        condition = " && source != RTS_BGP" if speaker.reflector else ""
        yield f"  if net ~ {_set(inner)}{condition} then reject;"
    if shown and speaker.reflector:
        yield "  # What others announce of pools is reflected."
        yield f"  if source = RTS_BGP && net ~ {_set(f'{pool}+' for pool in shown)} then accept;"
    if shown and workloads:
        yield "  # Single addresses of workloads here, in blocks of other hosts. Whatever else somebody routes stays here."
        addresses = _set(f"{pool}{{{WIDTH[family]},{WIDTH[family]}}}" for pool in shown)
        here = " || ".join(f"ifname ~ {_quoted(pattern)}" for pattern in workloads)
        yield f"  if net ~ {addresses} && ({here}) then accept;"
    yield "  reject;"
    yield "}"


def _template() -> Iterator[str]:
    yield "# ---- Sessions ----"
    yield ""
    yield "template bgp session {"
    yield "  connect delay time 1;"
    yield "  connect retry time 2;"
    yield "  error wait time 1, 5;"
    yield "  graceful restart on;"
    yield "}"


def _session(session: Session, speaker: Speaker, passwords: Mapping[SecretKeyRef, str]) -> Iterator[str]:
    family = session.peer.family
    yield f"protocol bgp {session.name} from session {{"
    yield f"  description {_quoted(session.description)};"
    source = f" {session.source.address}" if session.source else ""
    yield f"  local{source} port {speaker.listen_port} as {session.local_as};"
    yield f"  neighbor {session.peer.address} port {session.port} as {session.peer_as};"
    if speaker.bind_address and session.source:
        yield "  strict bind on;"
    if session.ttl_security is None:
        yield "  multihop;"
    else:
        yield f"  multihop {session.ttl_security};"
        yield "  ttl security on;"
    if session.passive:
        yield "  passive on;  # the peer connects to us"
    if session.cluster_id:
        yield "  rr client;"
        yield f"  rr cluster id {session.cluster_id};"
    if session.keepalive is not None:
        yield f"  keepalive time {session.keepalive};"
    if session.restart_time is not None:
        yield f"  graceful restart time {session.restart_time};"
    if session.allowed_own_as is not None:
        yield f"  allow local as {session.allowed_own_as};"
    if session.password is not None:
        yield from _password(session.password, passwords)
    yield f"  ipv{family} {{"
    yield "    import all;"
    yield f"    export filter to_peers{family};"
    yield "    gateway recursive;"
    yield "    add paths on;"
    if session.next_hop == "Self":
        yield "    next hop self;"
    elif session.next_hop == "Keep" and not session.internal:
        yield "    next hop keep;"
    yield "  };"
    yield "}"


def _password(reference: SecretKeyRef, passwords: Mapping[SecretKeyRef, str]) -> Iterator[str]:
    password = passwords.get(reference)
    if password is not None and password == _printable(password):
        yield f"  password {_quoted(password)};"
    else:
        yield f"  disabled;  # the password in secret {_word(reference.name)} is not known"


def _set(prefixes: Iterable[str]) -> str:
    return f"[ {', '.join(prefixes)} ]"


def _quoted(text: str) -> str:
    """A string of BIRD's language, which knows no escapes: what would end it or the line is left out."""
    return f'"{_printable(text)}"'


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and char != '"')


def _word(text: str) -> str:
    return re.sub(r"[^\w.:-]", "_", text, flags=re.ASCII)
