"""Sessions, BFD and router advertisements as protocols of BIRD.

In:   the ``Session``s of a ``Speaker``, and the passwords that are known.
Out:  a protocol for each, with the filters that are its own before it.
Next: ``bgp.bird`` puts them at the end of bird.conf.

The text of a session's protocol depends on nothing but the session and how its node listens,
so that a reload leaves a session alone that did not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from calico.bgp.bird_filters import filter_name, session_filters
from calico.bgp.bird_words import quoted, symbol, usable, word
from calico.bgp.speaker import Session, Speaker
from calico.model.address import Family
from calico.model.bgp import SecretKeyRef

HOLD_FACTOR = 3
"""A peer is given up when so many keepalives have not come (RFC 4271)."""


def template() -> Iterator[str]:
    """What all sessions have."""
    yield "# ---- Sessions ----"
    yield ""
    yield "template bgp session {"
    yield "  connect delay time 1;"
    yield "  connect retry time 2;"
    yield "  error wait time 1, 5;"
    yield "  graceful restart on;"
    yield "}"


def watching(speaker: Speaker) -> Iterator[str]:
    """BFD, and what makes us known to routers behind interfaces; nothing where nothing needs them."""
    if speaker.bfd:
        yield "protocol bfd watch {"
        for each in speaker.bfd:
            yield f"  interface {quoted(each.pattern)} {{"
            yield f"    min rx interval {each.receive} ms;"
            yield f"    min tx interval {each.send} ms;"
            yield f"    idle tx interval {each.idle} ms;"
            yield f"    multiplier {each.multiplier};"
            yield "  };"
        yield "}"
    if speaker.interfaces:
        if speaker.bfd:
            yield ""
        yield "# Routers that find their peers by router advertisements find us; nobody gets a route or an address."
        yield "protocol radv here {"
        for interface in speaker.interfaces:
            yield f"  interface {quoted(interface)} {{"
            yield "    min ra interval 3;"
            yield "    max ra interval 4;"
            yield "    default lifetime 0;"
            yield "    prefix ::/0 { skip; };"
            yield "  };"
        yield "}"


def session_text(session: Session, speaker: Speaker, passwords: Mapping[SecretKeyRef, str]) -> Iterator[str]:
    """The protocol of a session, with its own filters."""
    yield from session_filters(session)
    yield f"protocol bgp {symbol(session.name)} from session {{"
    yield f"  description {quoted(session.description)};"
    source = f" {session.source.address}" if session.source else ""
    yield f"  local{source} port {speaker.listen_port} as {session.local_as};"
    number = "external" if session.peer_as is None else f"as {session.peer_as}"
    yield f"  neighbor {session.peer.address} port {session.port} {number};"
    if session.interface:
        yield f"  interface {quoted(session.interface)};"
    if speaker.bind_address and session.source:
        yield "  strict bind on;"
    yield from _distance(session)
    if session.passive:
        yield "  passive on;  # the peer connects to us"
    if session.cluster_id:
        yield "  rr client;"
        yield f"  rr cluster id {session.cluster_id};"
    if session.keepalive is not None:
        yield f"  keepalive time {session.keepalive};"
        yield f"  hold time {HOLD_FACTOR * session.keepalive};"
    if session.restart_time is not None:
        yield f"  graceful restart time {session.restart_time};"
    if session.allowed_own_as is not None:
        yield f"  allow local as {session.allowed_own_as};"
    if session.bfd:
        yield f"  bfd {session.bfd};"
    if session.password is not None:
        yield from _password(session.password, passwords)
    for family in session.families:
        yield from _channel(session, family)
    yield "}"


def _distance(session: Session) -> Iterator[str]:
    if session.direct:
        yield "  direct;"
        yield "  check link on;"
    elif session.ttl_security is None:
        yield "  multihop;"
    else:
        yield f"  multihop {session.ttl_security};"
    if session.ttl_security is not None:
        yield "  ttl security on;"


def _channel(session: Session, family: Family) -> Iterator[str]:
    yield f"  ipv{family} {{"
    yield f"    import filter {filter_name(session, 'import', family)};"
    yield f"    export filter {filter_name(session, 'export', family)};"
    yield f"    gateway {'direct' if session.interface else 'recursive'};"
    yield "    add paths on;"
    if session.next_hop == "Self":
        yield "    next hop self;"
    elif session.next_hop == "Keep" and not session.internal:
        yield "    next hop keep;"
    if session.peer.family != family:
        yield "    extended next hop on;"
    yield "  };"


def _password(reference: SecretKeyRef, passwords: Mapping[SecretKeyRef, str]) -> Iterator[str]:
    password = passwords.get(reference)
    if usable(password):
        yield f"  password {quoted(password)};"
    else:
        yield f"  disabled;  # the password in secret {word(reference.name)} is not known"
