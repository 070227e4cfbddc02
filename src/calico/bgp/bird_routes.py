"""Which routes BIRD has, takes from the kernel, gives to it, and announces: one family's half of bird.conf.

In:   a ``Speaker``.
Out:  static routes, the kernel's protocol, and the functions and filters that all sessions share.
Next: ``bgp.bird`` puts the halves together.

A workload's address is announced once: within its block by the host that holds the block, or by
itself where the block is another host's. Nothing outside the pools and the ranges of services is announced, and
a host passes on what it learned from others only as a route reflector, or from its own workloads (behaviour reference 6.3).

A priority, the kernel's metric of a workload's route, decides which of several announcements wins. It does not become the
metric of BIRD's own routes: those all have one that nobody else has, for where two programs share a metric BIRD
overwrites the other's route, and where a route's metric changes it leaves the old one behind (seen with BIRD 2.0.12).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from calico.bgp.bird_filters import MAX_PREFERENCE, add_communities
from calico.bgp.bird_words import prefixes, quoted
from calico.bgp.speaker import WORKLOAD_PREFIX, Speaker
from calico.model.address import WIDTH, Cidr, Family


def family_half(speaker: Speaker, family: Family, workloads: Sequence[str]) -> Iterator[str]:
    """All of one family but the sessions; ``workloads`` are patterns of the workloads' interfaces."""
    blocks = [block for block in speaker.blocks if block.family == family]
    yield f"# ---- IPv{family} ----"
    yield ""
    yield from _static(speaker, family, blocks)
    yield from _kernel(speaker, family, workloads)
    yield ""
    yield from _shared(speaker, family)
    yield from _announce(speaker, family, blocks, workloads)
    yield ""
    yield f"filter to_peers{family} {{"
    yield f"  prioritise{family}();"
    yield f"  announce{family}();"
    yield "}"


def _static(speaker: Speaker, family: Family, blocks: Sequence[Cidr]) -> Iterator[str]:
    yield "# What is not assigned in our blocks goes nowhere, rather than back to where it came from."
    yield f"protocol static blocks{family} {{"
    yield f"  ipv{family};"
    yield from (f"  route {block} blackhole;" for block in blocks if not block.is_address)
    yield "}"
    yield ""
    services = [prefix for prefix in speaker.services if prefix.family == family]
    if services:
        yield "# Addresses of services, which the kernel does not route but translate."
        yield f"protocol static services{family} {{"
        yield f"  ipv{family};"
        yield from (f"  route {prefix} blackhole;" for prefix in services)
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


def _kernel(speaker: Speaker, family: Family, workloads: Sequence[str]) -> Iterator[str]:
    yield f"filter from_kernel{family} {{"
    yield "  # A workload that is here stays here, whoever else announces its address."
    yield from (f"  if ifname ~ {quoted(pattern)} then preference = 200;" for pattern in workloads)
    yield "  accept;"
    yield "}"
    yield ""
    yield f"filter to_kernel{family} {{"
    yield "  if source = RTS_DEVICE then reject;"
    if any(prefix.family == family for prefix in speaker.services):
        yield f'  if proto = "services{family}" then reject;'
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


def _shared(speaker: Speaker, family: Family) -> Iterator[str]:
    normal = MAX_PREFERENCE - speaker.priority(family)
    yield f"function believe{family}() {{"
    yield "  # What is more urgent than usual, as where a workload moves to, wins over what is here."
    yield f"  if defined(bgp_local_pref) && bgp_local_pref > {normal} then preference = 210;"
    yield "  accept;"
    yield "}"
    yield ""
    yield f"filter from_peers{family} {{"
    yield f"  believe{family}();"
    yield "}"
    yield ""
    yield f"function prioritise{family}() {{"
    yield "  if source != RTS_BGP then {"
    yield f"    bgp_local_pref = {normal};"
    yield f"    if defined(krt_metric) && krt_metric > 0 && krt_metric < {MAX_PREFERENCE} then"
    yield f"      bgp_local_pref = {MAX_PREFERENCE} - krt_metric;"
    yield "  }"
    yield "}"
    yield ""


def _announce(
    speaker: Speaker, family: Family, blocks: Sequence[Cidr], workloads: Sequence[str]
) -> Iterator[str]:
    pools = [pool for pool in speaker.pools if pool.cidr.family == family]
    hidden = [f"{pool.cidr}+" for pool in pools if not pool.exported]
    shown = [pool.cidr for pool in pools if pool.exported]
    inner = [f"{block}{{{block.length + 1},{WIDTH[family]}}}" for block in blocks if not block.is_address]
    services = [str(prefix) for prefix in speaker.services if prefix.family == family]
    ranges = [f"{prefix}+" for prefix in speaker.service_ranges if prefix.family == family]
    below = any(session.workload for session in speaker.sessions)
    learned = f'proto ~ "{WORKLOAD_PREFIX}*"'
    yield f"function announce{family}() {{"
    if not speaker.reflector:
        yield "  # Only a route reflector passes on what it learned" + (
            ", but from workloads of its own." if below else "."
        )
        yield f"  if source = RTS_BGP{f' && !({learned})' if below else ''} then reject;"
    if hidden:
        yield "  # Pools with disableBGPExport."
        yield f"  if net ~ {prefixes(hidden)} then reject;"
    for each in speaker.advertisements:
        if each.cidr.family == family:
            yield f"  if net ~ {each.cidr} then {{ {add_communities(each.communities)} }}"
    if services:
        yield "  # Services;"
        yield f'  if proto = "services{family}" then accept;'
    if ranges and speaker.reflector:
        yield "  # and those of others are reflected."
        yield f"  if source = RTS_BGP && net ~ {prefixes(ranges)} then accept;"
    if blocks:
        yield "  # Our blocks go out whole;"
        yield f"  if net ~ {prefixes(map(str, blocks))} then accept;"
    if inner:
        normal = MAX_PREFERENCE - speaker.priority(family)
        yield "  # addresses inside them need no route of their own, unless it is more urgent than usual."
        condition = "source != RTS_BGP && " if speaker.reflector or below else ""
        condition += f"bgp_local_pref <= {normal}"
        yield f"  if net ~ {prefixes(inner)} && {condition} then reject;"
    if shown and (speaker.reflector or below):
        yield "  # What others announce of pools is passed on."
        yield f"  if source = RTS_BGP && net ~ {prefixes(f'{pool}+' for pool in shown)} then accept;"
    if shown and workloads:
        yield "  # Single addresses of workloads here, in blocks of other hosts. Whatever else somebody routes stays here."
        addresses = prefixes(f"{pool}{{{WIDTH[family]},{WIDTH[family]}}}" for pool in shown)
        here = " || ".join(f"ifname ~ {quoted(pattern)}" for pattern in workloads)
        yield f"  if net ~ {addresses} && ({here}) then accept;"
    yield "  reject;"
    yield "}"
