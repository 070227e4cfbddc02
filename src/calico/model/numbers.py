"""Numbers that people write in several ways: protocols, ports, AS numbers, DSCP.

In:   a number, a string of digits, or a name, as a resource holds it.
Out:  the number; ``ModelError`` with a sentence where there is none.
Next: ``model.validation`` reports the sentence; calculation and rendering use the numbers.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from calico.model.errors import ModelError

PROTOCOLS: Final = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132, "UDPLite": 136}
"""Protocols with a name, and their numbers."""
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
WITH_PORTS: Final = frozenset({TCP, UDP, SCTP})
"""Protocols whose ports a rule may name."""
MAX_PORT: Final = 65535
MAX_AS: Final = 2**32 - 1

_DSCP: Final = {
    "DF": 0,
    "EF": 46,
    **{f"CS{number}": number * 8 for number in range(7)},
    **{f"AF{row}{column}": row * 8 + column * 2 for row in range(1, 5) for column in range(1, 4)},
}
_PORT_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_AS_PART: Final = re.compile(r"[0-9]{1,10}")


class PortRange(NamedTuple):
    """Ports from ``first`` to ``last``, both included."""

    first: int
    last: int


def protocol_number(protocol: int | str) -> int:
    """The number, 1 to 255, of a protocol that is given by number, digits or name."""
    if isinstance(protocol, str) and not _is_number(protocol):
        number = PROTOCOLS.get(protocol)
        if number is not None:
            return number
        same = next((name for name in PROTOCOLS if name.lower() == protocol.lower()), "")
        hint = f"did you mean {same}?" if same else f"names are {', '.join(PROTOCOLS)}"
        raise ModelError(f"{protocol!r} is no protocol; {hint}")
    number = _int(protocol)
    if not 1 <= number <= 255:
        raise ModelError(f"{number} is no protocol; numbers are 1 to 255")
    return number


def parse_port(port: int | str) -> PortRange | str:
    """The range that ``port`` stands for (a number is a range of one), or the name of a port."""
    if isinstance(port, str) and not _is_number(port):
        if ":" not in port:
            return port_name(port)
        first, _, last = port.partition(":")
        if not (_is_number(first) and _is_number(last)):
            raise ModelError(f"{port!r} is no range of ports; write first:last, as in 8000:8080")
        ports = PortRange(_int(first), _int(last))
        if ports.first > ports.last:
            raise ModelError(f"the range {port!r} runs backwards; write {ports.last}:{ports.first}")
    else:
        ports = PortRange(_int(port), _int(port))
    if ports.first < 1 or ports.last > MAX_PORT:
        raise ModelError(f"{port!r} leaves the range of ports; numbers are 1 to {MAX_PORT}")
    return ports


def port_name(name: str) -> str:
    """``name`` itself, if a port may be called so."""
    if _PORT_NAME.fullmatch(name) is None:
        raise ModelError(
            f"{name!r} is no name of a port; up to 128 letters, digits, '_', '.' and '-' make one, "
            "and a range is written first:last"
        )
    return name


def as_number(value: int | str) -> int:
    """An AS number, from a number, digits, or the dotted form ``high.low``."""
    parts = str(value).split(".")
    numbers = [int(part) for part in parts if _AS_PART.fullmatch(part)]
    if len(numbers) == len(parts) == 1 and numbers[0] <= MAX_AS:
        return numbers[0]
    if len(numbers) == len(parts) == 2 and max(numbers) <= 0xFFFF:
        return numbers[0] << 16 | numbers[1]
    raise ModelError(
        f"{value!r} is no AS number; write 0 to {MAX_AS}, or two numbers of at most 65535 with a dot between"
    )


def dscp_number(value: int | str) -> int:
    """A DSCP, 0 to 63, from a number, digits, or a name such as EF or AF11."""
    named = isinstance(value, str) and not _is_number(value)
    number = _DSCP.get(str(value).upper(), -1) if named else _int(value)
    if not 0 <= number <= 63:
        raise ModelError(f"{value!r} is no DSCP; write 0 to 63, or DF, EF, AF11 to AF43, CS0 to CS6")
    return number


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _int(value: int | str) -> int:
    return value if isinstance(value, int) else int(value[:12])  # beyond twelve digits all are too large
