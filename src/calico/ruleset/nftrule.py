"""One rule in nftables' words: as text to write, and as the JSON that ``nft -jn list`` prints for it.

In:   ``ast.Rule`` and the family of its table.
Out:  ``KernelRule``: one line of text, the expressions as read back, the comment. Mostly one for a rule; a
      ``Reject`` that may meet TCP is two.
Next: ``ruleset.nft`` puts the lines into a transaction, ``ruleset.nftstate`` compares the expressions with the kernel's.

Both forms are made in one place, so that they cannot drift apart; a kernel test proves for every node that the
expressions written here are the ones read back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from calico.model.address import Cidr
from calico.ruleset import ast
from calico.ruleset.provenance import describe

COMMENT_LIMIT: Final = 127
"""Bytes in a comment: NFTNL_UDATA_COMMENT_MAXLEN (128) with its closing zero."""

TCP: Final = 6
PORT_PROTOCOLS: Final = {TCP: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
"""Protocols whose first four bytes are the ports, by nftables' name."""
_LOOKUP_PROTOCOLS: Final = (TCP, 17, 132, 136)

_CT_STATES: Final = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_CT_STATUS_DNAT: Final = 0x20
_FIB_LOCAL: Final = 2
_WORD: Final = 0xFFFFFFFF
_LAST_PORT: Final = 65535
_ADDRESS_FIELD: Final = {"source": "saddr", "destination": "daddr"}
_PORT_FIELD: Final = {"source": "sport", "destination": "dport"}
_IP: Final[dict[ast.TableFamily, str]] = {4: "ip", 6: "ip6", "arp": "arp"}
_ICMP: Final[dict[ast.TableFamily, str]] = {4: "icmp", 6: "icmpv6"}
_PORT_UNREACHABLE: Final[dict[ast.TableFamily, int]] = {4: 3, 6: 4}
_UNQUOTABLE: Final = re.compile(r"[^ !#%-\[\]-~]")


class KernelRule(NamedTuple):
    """One rule as the kernel holds it: ``text`` includes the comment, ``expr`` is nft's JSON without counter values."""

    text: str
    expr: list[Any]
    comment: str


class _Part(NamedTuple):
    text: str
    expr: list[Any]


def kernel_rules(rule: ast.Rule, family: ast.TableFamily) -> Iterator[KernelRule]:
    """``rule`` in nftables' words, in order."""
    if any(isinstance(statement, ast.Log) and statement.rate for statement in rule.statements[:-1]):
        raise ValueError(f"only the last statement of a rule may have a rate: {rule}")
    comment = quotable(describe(rule.origin) if rule.origin else rule.comment)
    protocol = _protocol(rule)
    matches = _matches(rule, family, protocol)
    if rule.statements and isinstance(rule.statements[-1], ast.Reject):
        before = [_statement(statement) for statement in rule.statements[:-1]]
        if protocol in {None, TCP}:
            only_tcp = _matches(rule, family, protocol)
            if protocol is None:
                # nft prints this test, but not where it stands directly before the reset that implies it.
                apart = bool(before) or rule.counted
                only_tcp.append(
                    _match(ast.Protocol(TCP), family, TCP) if apart else _Part(f"meta l4proto {TCP}", [])
                )
            reset = _Part("reject with tcp reset", [{"reject": {"type": "tcp reset"}}])
            yield _joined(only_tcp, [*before, reset], comment, counted=rule.counted)
        if protocol != TCP:
            icmp, code = _ICMP[family], _PORT_UNREACHABLE[family]
            refuse = _Part(f"reject with {icmp} port-unreachable", [{"reject": {"type": icmp, "expr": code}}])
            yield _joined(matches, [*before, refuse], comment, counted=rule.counted)
    else:
        yield _joined(matches, [_statement(s) for s in rule.statements], comment, counted=rule.counted)


def quotable(text: str) -> str:
    """``text`` fit for a quoted string of nft: printable ASCII without quotes, backslash and "$", cut to the limit."""
    return _UNQUOTABLE.sub("_", text.replace('"', "'"))[:COMMENT_LIMIT]


def verdict_text(verdict: ast.Verdict) -> str:
    """A verdict, as it stands in a rule or a verdict map."""
    match verdict:
        case ast.Jump(chain):
            return f"jump {chain}"
        case ast.Goto(chain):
            return f"goto {chain}"
        case ast.Accept():
            return "accept"
        case ast.Drop():
            return "drop"
        case ast.Return():
            return "return"
        case ast.Reject():
            raise ValueError("nftables has no reject verdict: a map of verdicts can only drop")


def verdict_expr(verdict: ast.Verdict) -> dict[str, Any]:
    """A verdict as nft's JSON."""
    match verdict:
        case ast.Jump(chain):
            return {"jump": {"target": chain}}
        case ast.Goto(chain):
            return {"goto": {"target": chain}}
        case _:
            return {verdict_text(verdict): None}


def _joined(matches: list[_Part], statements: list[_Part], comment: str, *, counted: bool) -> KernelRule:
    counter = [_Part("counter", [{"counter": None}])] if counted else []
    parts = [*matches, *counter, *statements]
    words = [part.text for part in parts if part.text]
    if comment:
        words.append(f'comment "{comment}"')
    return KernelRule(" ".join(words), [expr for part in parts for expr in part.expr], comment)


def _protocol(rule: ast.Rule) -> int | None:
    """The one protocol that the rule asks for."""
    for match in rule.matches:
        if isinstance(match, ast.Protocol) and not match.negate:
            return match.number
    return None


def _matches(
    rule: ast.Rule, family: ast.TableFamily, protocol: int | None, *, implied: bool = False
) -> list[_Part]:
    """The matches; nft prints no test of the protocol where something later in the same rule implies it."""
    implied = any(
        (isinstance(match, ast.Ports | ast.PortInSet) and protocol in PORT_PROTOCOLS)
        or (isinstance(match, ast.Icmp) and protocol in {1, 58})
        for match in rule.matches
    )
    parts = []
    looked_up = False
    for match in _apart(rule.matches):
        if isinstance(match, ast.Protocol) and not match.negate and implied:
            parts.append(_Part(f"meta l4proto {match.number}", []))
            continue
        if isinstance(match, ast.PortInSet | ast.Ports) and protocol not in PORT_PROTOCOLS and not looked_up:
            # nft itself would read the ports of any packet.
            looked_up = True
            numbers = ", ".join(str(number) for number in _LOOKUP_PROTOCOLS)
            right = {"set": list(_LOOKUP_PROTOCOLS)}
            parts.append(_Part(f"meta l4proto {{ {numbers} }}", [_equal(_meta("l4proto"), right)]))
        parts.append(_match(match, family, protocol))
    return parts


def _apart(matches: Sequence[ast.Match]) -> Iterator[ast.Match]:
    """The same matches, so that no port of either end is excluded by number beside one of the other end.

    nft (1.0.6 at least) makes one comparison of such two, which then holds unless both ports are the excluded ones. Of
    the second, all other ports are asked for.
    """
    excluded: set[ast.End] = set()
    for match in matches:
        if not (isinstance(match, ast.Ports) and match.negate):
            yield match
            continue
        ranges = merged(match.ranges)
        (low, high), others = ranges[0], ranges[1:]
        if others or low != high:
            yield match
        elif excluded - {match.end}:
            around = ((0, low - 1), (low + 1, _LAST_PORT))
            yield ast.Ports(match.end, tuple(pair for pair in around if pair[0] <= pair[1]))
        else:
            excluded.add(match.end)
            yield match


def _match(match: ast.Match, family: ast.TableFamily, protocol: int | None) -> _Part:
    layer4 = PORT_PROTOCOLS.get(protocol or 0, "th")
    match match:
        case ast.Interface(direction, name, negate):
            key = "iifname" if direction == "in" else "oifname"
            return _Part(f'{key} {_not(negate)}"{name}"', [_equal(_meta(key), name, negate=negate)])
        case ast.Address(end, net, negate):
            field = _ADDRESS_FIELD[end] + (" ip" if family == "arp" else "")
            return _Part(
                f"{_IP[family]} {field} {_not(negate)}{net_text(net)}",
                [_equal(_payload(_IP[family], field), net_expr(net), negate=negate)],
            )
        case ast.InSet(end, name, negate):
            field = _ADDRESS_FIELD[end]
            return _Part(
                f"{_IP[family]} {field} {_not(negate)}@{name}",
                [_equal(_payload(_IP[family], field), f"@{name}", negate=negate)],
            )
        case ast.PortInSet(end, name, negate):
            address, port = _ADDRESS_FIELD[end], _PORT_FIELD[end]
            key_expr = {"concat": [_payload(_IP[family], address), _meta("l4proto"), _payload(layer4, port)]}
            return _Part(
                f"{_IP[family]} {address} . meta l4proto . th {port} {_not(negate)}@{name}",
                [_equal(key_expr, f"@{name}", negate=negate)],
            )
        case ast.Protocol(number, negate):
            return _Part(
                f"meta l4proto {_not(negate)}{number}", [_equal(_meta("l4proto"), number, negate=negate)]
            )
        case ast.Ports(end, ranges, negate):
            port = _PORT_FIELD[end]
            text, right = _ranges(merged(ranges))
            return _Part(
                f"{layer4} {port} {_not(negate)}{text}",
                [_equal(_payload(layer4, port), right, negate=negate)],
            )
        case ast.Icmp():
            return _icmp(match, _ICMP[family])
        case ast.CtState(states):
            values = sorted(_CT_STATES[state] for state in states)
            right = values if len(values) > 1 else values[0]
            return _Part(
                f"ct state {','.join(states)}",
                [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": right}}],
            )
        case ast.CtDnat(negate):
            status: dict[str, Any] = {"ct": {"key": "status"}}
            if negate:
                left: dict[str, Any] = {"&": [status, _CT_STATUS_DNAT]}
                return _Part("ct status & dnat != dnat", [_equal(left, _CT_STATUS_DNAT, negate=True)])
            return _Part(
                "ct status dnat", [{"match": {"op": "in", "left": status, "right": _CT_STATUS_DNAT}}]
            )
        case ast.CtSource(way, net):
            key = f"{_IP[family]} saddr"
            return _Part(
                f"ct {way} {key} {net_text(net)}", [_equal({"ct": {"key": key, "dir": way}}, net_expr(net))]
            )
        case ast.Limit(rate, burst):
            return _Part(
                f"limit rate {rate}/second burst {burst} packets",
                [{"limit": {"rate": rate, "burst": burst, "per": "second"}}],
            )
        case ast.Mark(value, mask, negate):
            left = {"&": [_meta("mark"), mask]} if mask != _WORD else _meta("mark")
            masked = f" & {mask:#x}" if mask != _WORD else ""
            return _Part(
                f"meta mark{masked} {'!=' if negate else '=='} {value:#x}",
                [_equal(left, value, negate=negate)],
            )
        case ast.ReversePathFails():
            left = {"fib": {"result": "oif", "flags": ["saddr", "iif"]}}
            return _Part("fib saddr . iif oif missing", [_equal(left, right=False)])
        case ast.LocalAddress(end, negate):
            flag = _ADDRESS_FIELD[end]
            left = {"fib": {"result": "type", "flags": [flag]}}
            return _Part(f"fib {flag} type {_not(negate)}local", [_equal(left, _FIB_LOCAL, negate=negate)])


def _icmp(match: ast.Icmp, protocol: str) -> _Part:
    kind = _payload(protocol, "type")
    if match.code is None:
        return _Part(
            f"{protocol} type {_not(match.negate)}{match.type}",
            [_equal(kind, match.type, negate=match.negate)],
        )
    code = _payload(protocol, "code")
    if not match.negate:
        return _Part(
            f"{protocol} type {match.type} {protocol} code {match.code}",
            [_equal(kind, match.type), _equal(code, match.code)],
        )
    pair = {"set": [{"concat": [match.type, match.code]}]}
    return _Part(
        f"{protocol} type . {protocol} code != {{ {match.type} . {match.code} }}",
        [_equal({"concat": [kind, code]}, pair, negate=True)],
    )


def _statement(statement: ast.Statement) -> _Part:
    match statement:
        case ast.SetMark(value, mask):
            return _set_mark(value, mask)
        case ast.NoTrack():
            return _Part("notrack", [{"notrack": None}])
        case ast.Log(prefix, rate, burst):
            log = _Part(
                f'log prefix "{quotable(prefix)}" level notice',
                [{"log": {"prefix": quotable(prefix), "level": "notice"}}],
            )
            if not rate:
                return log
            number, _, unit = rate.partition("/")
            limit = {"limit": {"rate": int(number), "burst": burst, "per": unit}}
            return _Part(f"limit rate {rate} burst {burst} packets {log.text}", [limit, *log.expr])
        case ast.Masquerade():
            return _Part("masquerade fully-random", [{"masquerade": {"flags": "fully-random"}}])
        case ast.Dispatch(direction, name):
            key = "iifname" if direction == "in" else "oifname"
            return _Part(f"{key} vmap @{name}", [{"vmap": {"key": _meta(key), "data": f"@{name}"}}])
        case _:
            return _Part(verdict_text(statement), [verdict_expr(statement)])


def _set_mark(value: int, mask: int) -> _Part:
    kept = (~mask & _WORD) | value
    mark = _meta("mark")
    new: Any
    if mask == _WORD:
        text, new = f"{value:#x}", value
    elif value == 0:
        text, new = f"meta mark & {kept:#x}", {"&": [mark, kept]}
    elif kept == _WORD:
        text, new = f"meta mark | {value:#x}", {"|": [mark, value]}
    else:
        text, new = f"meta mark & {kept:#x} | {value:#x}", {"|": [{"&": [mark, kept]}, value]}
    return _Part(f"meta mark set {text}", [{"mangle": {"key": mark, "value": new}}])


def net_text(net: Cidr) -> str:
    """A prefix as nft writes it: a single address has no length."""
    return net.address if net.is_address else str(net)


def net_expr(net: Cidr) -> Any:
    """A prefix as nft's JSON."""
    return net.address if net.is_address else {"prefix": {"addr": net.address, "len": net.length}}


def merged(ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """Ranges in ascending order, those that touch or overlap made one."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        else:
            result.append((low, high))
    return result


def _ranges(ranges: list[tuple[int, int]]) -> tuple[str, Any]:
    texts = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
    exprs: list[Any] = [low if low == high else {"range": [low, high]} for low, high in ranges]
    if len(ranges) == 1:
        return texts[0], exprs[0]
    return f"{{ {', '.join(texts)} }}", {"set": exprs}


def _not(negate: bool) -> str:
    return "!= " if negate else ""


def _meta(key: str) -> dict[str, Any]:
    return {"meta": {"key": key}}


def _payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _equal(left: Any, right: Any, *, negate: bool = False) -> dict[str, Any]:
    return {"match": {"op": "!=" if negate else "==", "left": left, "right": right}}
