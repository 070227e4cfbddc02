"""What values a parameter of the agent may have: its type, what is wrong with a value, how text becomes one.

In:   a value as a resource holds it; or text, as the environment and the file have it.
Out:  findings; or the value that the text stands for, in the form that a resource has.
Next: ``model.felix_parameters`` says which parameter has which shape.

A stored value may be wrong: enumerations and ranges are judged here and not by the type, so that one bad value spoils
its own parameter and no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta

from calico.model.errors import Finding, Findings, Path
from calico.model.resource import Strict

SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
TRUE: Final = frozenset({"true", "1", "yes", "y", "t"})
FALSE: Final = frozenset({"false", "0", "no", "n", "f"})
PREFIX_LIST: Final = r"[A-Za-z0-9_.-]{1,14}(,[A-Za-z0-9_.-]{1,14})*"
FILTER: Final = r"[A-Za-z0-9:._+-]{1,15}"
"""The name of an interface, or its beginning and "+"."""
MOST_TABLES: Final = 65535
LONGEST_REGION: Final = 46


class Shape(NamedTuple):
    """A form of values."""

    annotation: Any
    check: Callable[[Path, Any], Findings]
    read: Callable[[str], Any]
    """The value that a text stands for, unchecked; ValueError with a sentence where there is none."""


class ProtoPort(Strict, frozen=True, kw_only=True):
    """A port that host policy never closes; TCP unless it says otherwise, ``net`` narrows the far side."""

    port: int
    protocol: str = ""
    net: str = ""


class RouteTableRange(Strict, frozen=True, kw_only=True):
    """Routing tables from ``min`` to ``max``, both included."""

    min: int
    max: int


class HealthTimeoutOverride(Strict, frozen=True, kw_only=True):
    """How long a named part of the agent may be silent before it counts as dead."""

    name: str
    timeout: str


class ConntrackTimeouts(Strict, frozen=True, kw_only=True):
    """Lifetimes of connections in the eBPF data plane: spans of time, or Auto."""

    creation_grace_period: str | None = None
    generic_timeout: str | None = None
    icmp_timeout: str | None = None
    tcp_established: str | None = None
    tcp_fins_seen: str | None = None
    tcp_reset_seen: str | None = None
    tcp_syn_sent: str | None = None
    udp_timeout: str | None = None


# --- simple values -----------------------------------------------------------------------------------


def _any(_path: Path, _value: Any) -> Findings:
    yield from ()


def _boolean(text: str) -> bool:
    if text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    raise ValueError("true or false is expected")


def _whole(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError("a whole number is expected") from None


def _items(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _pairs(text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in _items(text)]
    if not all(equals for _, equals, _ in pairs):
        raise ValueError("name=value pairs, separated by commas, are expected")
    return {name: value for name, _, value in pairs}


BOOLEAN: Final = Shape(bool, _any, _boolean)
TEXT: Final = Shape(str, _any, str)


def number(least: int, most: int) -> Shape:
    """Whole numbers of a range, both ends included."""

    def check(path: Path, value: int) -> Findings:
        from calico.model import checks

        return checks.within(path, value, least, most)

    return Shape(int, check, _whole)


COUNT: Final = number(0, 2**63 - 1)
PORT: Final = number(0, 65535)
PRIORITY: Final = number(1, 2**31 - 2)


def _mask(path: Path, value: int) -> Findings:
    if not 0 < value < 1 << 32 or value.bit_count() < 8:
        yield Finding(
            path, f"{value:#x} is no mask for marks", "write a 32-bit number with at least 8 bits set"
        )


MASK: Final = Shape(int, _mask, _whole)


def words(*allowed: str, exact: bool = False) -> Shape:
    """Some words, in any case unless ``exact``."""

    def check(path: Path, value: str) -> Findings:
        from calico.model.schema import nearest

        fits = value in allowed if exact else value.lower() in {"", *map(str.lower, allowed)}
        if not fits:
            yield Finding(path, f"{value!r} is not known here", nearest(value, list(allowed)))

    def read(text: str) -> str:
        for word in allowed:
            if word.lower() == text.lower():
                return word
        raise ValueError(f"one of {', '.join(allowed)} is expected")

    return Shape(Annotated[str, Meta(extra_json_schema={"enum": [*allowed]})], check, read)


SWITCH: Final = words("Enabled", "Disabled", exact=True)
SEVERITY: Final = words("Trace", "Debug", "Info", "Warning", "Error", "Fatal")


def pattern(regex: str, wanted: str) -> Shape:
    """Texts that match a regular expression as a whole; ``wanted`` says what to write."""

    def check(path: Path, value: str) -> Findings:
        if value and re.fullmatch(regex, value) is None:
            yield Finding(path, f"{value!r} does not fit here", wanted)

    return Shape(str, check, str)


INTERFACE: Final = pattern(
    r"[A-Za-z0-9_.-]{1,15}",
    "write the name of an interface: 1 to 15 letters, digits, '_', '.' and '-'",
)
INTERFACE_FILTER: Final = pattern(
    FILTER, "write the name of an interface, or its beginning and '+', at most 15 characters"
)
HOST: Final = pattern(r"[A-Za-z0-9:._+-]{1,64}", "write an address or the name of a host")
KEY_VALUES: Final = pattern(
    r"([A-Za-z0-9_-]+=[^=,]*,)*([A-Za-z0-9_-]+=[^=,]*)?", "write key=value pairs, separated by commas"
)


# --- time --------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """A span of time in Go's notation, which ``checks.duration`` accepts, as seconds."""
    return sum(
        float(count) * SECONDS[unit] for count, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text)
    )


def _duration(path: Path, value: str) -> Findings:
    from calico.model import checks

    return checks.duration(path, value)


def _duration_in(unit: str) -> Callable[[str], str]:
    return lambda text: text + unit if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) else text


DURATION: Final = Shape(str, _duration, _duration_in("s"))
DURATION_MILLIS: Final = Shape(str, _duration, _duration_in("ms"))
"""A plain number in a text counts milliseconds."""


def _conntrack_timeouts(path: Path, value: ConntrackTimeouts) -> Findings:
    for name, encoded in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
        text = getattr(value, name)
        if text != "Auto":
            yield from _duration((*path, encoded), text)


def _read_conntrack_timeouts(text: str) -> ConntrackTimeouts:
    """``TCPSynSent=20s,UDPTimeout=Auto``: names in any case."""
    fields = dict(
        zip(
            map(str.lower, ConntrackTimeouts.__struct_encode_fields__),
            ConntrackTimeouts.__struct_fields__,
            strict=True,
        )
    )
    given = {name.lower(): value for name, value in _pairs(text).items()}
    if unknown := given.keys() - fields:
        raise ValueError(f"{min(unknown)!r} is no timeout")
    return ConntrackTimeouts(**{fields[name]: value for name, value in given.items()})


CONNTRACK_TIMEOUTS: Final = Shape(ConntrackTimeouts, _conntrack_timeouts, _read_conntrack_timeouts)


def _health_timeouts(path: Path, value: list[HealthTimeoutOverride]) -> Findings:
    for index, each in enumerate(value):
        if re.fullmatch(r"[A-Za-z0-9_ -]+", each.name) is None:
            yield Finding(
                (*path, index, "name"),
                f"{each.name!r} is no name of a part",
                "write letters, digits, '_', '-'",
            )
        yield from _duration((*path, index, "timeout"), each.timeout)


def _read_health_timeouts(text: str) -> list[HealthTimeoutOverride]:
    return [HealthTimeoutOverride(name=name, timeout=value) for name, value in _pairs(text).items()]


HEALTH_TIMEOUTS: Final = Shape(list[HealthTimeoutOverride], _health_timeouts, _read_health_timeouts)


# --- addresses and ports -----------------------------------------------------------------------------


def address(family: int) -> Shape:
    """One address of a family."""

    def check(path: Path, value: str) -> Findings:
        from calico.model import checks

        if value:
            yield from checks.address(path, value, 4 if family == 4 else 6)

    return Shape(str, check, str)


def nets(family: int | None = None) -> Shape:
    """Prefixes or addresses, of one family if it is given."""

    def check(path: Path, value: list[str]) -> Findings:
        from calico.model import checks

        for index, each in enumerate(value):
            yield from checks.prefix((*path, index), each, 4 if family == 4 else None)

    return Shape(list[str], check, _items)


def _interface_filters(path: Path, value: list[str]) -> Findings:
    for index, each in enumerate(value):
        yield from INTERFACE_FILTER.check((*path, index), each)


INTERFACE_FILTERS: Final = Shape(list[str], _interface_filters, _items)


def _port_range(path: Path, value: int | str) -> Findings:
    from calico.model import checks
    from calico.model.numbers import parse_port

    named = isinstance(value, str) and not re.fullmatch(r"[0-9]+(:[0-9]+)?", value)
    if named:
        yield Finding(path, f"{value!r} is no range of ports", "write a number, or first:last")
    else:
        yield from checks.readable(path, parse_port, value)


PORT_RANGE: Final = Shape(int | str, _port_range, str)


def _port_ranges(path: Path, value: list[int | str]) -> Findings:
    from calico.model import checks

    yield from checks.at_most(path, value, 7, "ranges")
    for index, each in enumerate(value):
        yield from _port_range((*path, index), each)


PORT_RANGES: Final = Shape(list[int | str], _port_ranges, _items)


def _failsafe(path: Path, value: list[ProtoPort]) -> Findings:
    from calico.model import checks

    for index, each in enumerate(value):
        where = (*path, index)
        yield from words("TCP", "UDP", "SCTP").check((*where, "protocol"), each.protocol)
        yield from checks.port_number((*where, "port"), each.port)
        if each.net:
            yield from checks.prefix((*where, "net"), each.net)


def _read_failsafe(text: str) -> list[ProtoPort]:
    """``tcp:22,udp:10.0.0.0/8:68,tcp:[fd00::/8]:179``: protocol, optional net, port; a bare number is TCP."""
    found = []
    for item in _items(text):
        head, _, port = item.rpartition(":")
        protocol, _, net = head.partition(":")
        if not port.isdecimal():
            raise ValueError(f"{item!r} is not of the form protocol:port or protocol:net:port")
        found.append(ProtoPort(port=int(port), protocol=protocol, net=net.strip("[]")))
    return found


FAILSAFE: Final = Shape(list[ProtoPort], _failsafe, _read_failsafe)


def _dscp(path: Path, value: int | str) -> Findings:
    from calico.model import checks
    from calico.model.numbers import dscp_number

    return checks.readable(path, dscp_number, value)


DSCP: Final = Shape(int | str, _dscp, str)


# --- the rest ----------------------------------------------------------------------------------------


def _regex(path: Path, value: str) -> Findings:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(value)
    except re.error as error:
        yield Finding(path, f"{value!r} is no regular expression: {error}", "correct it")


REGEX: Final = Shape(str, _regex, str)


def _interface_exclude(path: Path, value: str) -> Findings:
    for item in value.split(",") if value else ():
        if re.fullmatch(r"/\S+/", item):
            yield from _regex(path, item[1:-1])
        elif re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", item) is None:
            yield Finding(
                path,
                f"{item!r} is neither an interface nor a regular expression",
                "write names, or expressions between slashes, separated by commas: /^kube/,veth1",
            )


INTERFACE_EXCLUDE: Final = Shape(str, _interface_exclude, str)


def _prefixes(path: Path, value: str) -> Findings:
    if value and re.fullmatch(PREFIX_LIST, value) is None:
        yield Finding(
            path,
            f"{value!r} is no list of beginnings of interface names",
            "write letters, digits, '_', '.' and '-', separated by commas: cali,tap",
        )


PREFIXES: Final = Shape(str, _prefixes, lambda text: ",".join(_items(text)))


def _table_range(path: Path, value: RouteTableRange) -> Findings:
    if not 1 <= value.min <= value.max <= 250:
        yield Finding(
            path, f"{value.min} to {value.max} is no range of routing tables", "stay within 1 to 250"
        )


def _table_ranges(path: Path, value: list[RouteTableRange]) -> Findings:
    for index, each in enumerate(value):
        if not 1 <= each.min <= each.max < 2**32:
            yield Finding(
                (*path, index),
                f"{each.min} to {each.max} is no range of routing tables",
                f"begin with 1 or more, and end with {2**32 - 1} or less",
            )
    total = sum(each.max - each.min + 1 for each in value)
    if total > MOST_TABLES:
        yield Finding(path, f"the ranges hold {total} tables", f"{MOST_TABLES} is the most")


def _read_table_range(text: str) -> RouteTableRange:
    first, _, last = text.partition("-")
    return RouteTableRange(min=_whole(first), max=_whole(last or first))


TABLE_RANGE: Final = Shape(RouteTableRange, _table_range, _read_table_range)
TABLE_RANGES: Final = Shape(
    list[RouteTableRange], _table_ranges, lambda text: [*map(_read_table_range, _items(text))]
)
TEXTS: Final = Shape(dict[str, str], _any, _pairs)


def _region(path: Path, value: str) -> Findings:
    from calico.model import checks

    if value:
        yield from checks.dns_label(path, value)
        if len(value) > LONGEST_REGION:
            yield Finding(path, f"{value!r} is too long", f"write at most {LONGEST_REGION} characters")


REGION: Final = Shape(str, _region, str)


def _selector(path: Path, value: str) -> Findings:
    from calico.model import checks

    return checks.selector(path, value)


SELECTOR: Final = Shape(str, _selector, str)
