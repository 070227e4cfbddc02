"""BIRD's configuration, from what a node should do in BGP.

In:   ``Speaker``, planned by ``bgp.plan``.
Out:  the text of ``bird.conf`` for BIRD 2, one daemon for IPv4 and IPv6; equal speakers give equal text.
Next: ``bgp.daemon`` lets BIRD check it, then loads it.

The parts are in ``bgp.bird_routes``, ``bgp.bird_filters`` and ``bgp.bird_sessions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from calico.bgp.bird_filters import functions
from calico.bgp.bird_routes import family_half
from calico.bgp.bird_sessions import session_text, template, watching
from calico.bgp.bird_words import quoted, word
from calico.bgp.speaker import Speaker
from calico.model.address import Family
from calico.model.bgp import SecretKeyRef

RECOVERY_SECONDS: Final = 20
"""How long a restarted BIRD waits for its peers before it takes away kernel routes that nobody announced again."""

_FAMILIES: Final[tuple[Family, ...]] = (4, 6)

_NO_PASSWORDS: Final[Mapping[SecretKeyRef, str]] = MappingProxyType({})


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
        *(family_half(speaker, family, workloads) for family in _FAMILIES),
        _filters(speaker),
        template(),
        watching(speaker),
        *(session_text(session, speaker, passwords) for session in speaker.sessions),
    )
    texts = ("".join(f"{line}\n" for line in section) for section in sections)
    return "\n".join(text for text in texts if text)


def _general(speaker: Speaker) -> Iterator[str]:
    yield f"# BGP of {word(speaker.node)}. Written by the Calico agent; edits are overwritten."
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
    yield f"  interface {', '.join(f'-{quoted(pattern)}' for pattern in excluded)}, {quoted('*')};"
    yield "  check link;"
    yield "}"


def _filters(speaker: Speaker) -> Iterator[str]:
    if speaker.filters:
        yield "# ---- Filters ----"
        yield from functions(speaker)
