"""Protocols, ports, AS numbers and DSCP, in all the ways in which people write them."""

import pytest

from calico.model.errors import ModelError
from calico.model.numbers import PortRange, as_number, dscp_number, parse_port, protocol_number


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        (protocol_number, "TCP", 6),
        (protocol_number, "UDPLite", 136),
        (protocol_number, 255, 255),
        (protocol_number, "17", 17),
        (parse_port, 80, PortRange(80, 80)),
        (parse_port, "80", PortRange(80, 80)),
        (parse_port, "1:65535", PortRange(1, 65535)),
        (parse_port, "http", "http"),
        (parse_port, "8080-tcp", "8080-tcp"),
        (as_number, 0, 0),
        (as_number, "4294967295", 2**32 - 1),
        (as_number, "1.10", 65546),
        (as_number, "00.01", 1),
        (dscp_number, "ef", 46),
        (dscp_number, "AF33", 30),
        (dscp_number, "CS5", 40),
        (dscp_number, "63", 63),
        (dscp_number, 0, 0),
    ],
)
def test_readings(read, given, expected):
    """Numbers, digits and names are read alike."""
    assert read(given) == expected


@pytest.mark.parametrize(
    ("read", "given", "message"),
    [
        (protocol_number, "tcp", "did you mean TCP?"),
        (protocol_number, "FOO", "names are ICMP"),
        (protocol_number, 0, "numbers are 1 to 255"),
        (protocol_number, "256", "numbers are 1 to 255"),
        (protocol_number, "", "is no protocol"),
        (parse_port, 0, "1 to 65535"),
        (parse_port, "65536", "1 to 65535"),
        (parse_port, "0:10", "1 to 65535"),
        (parse_port, "10:1", "write 1:10"),
        (parse_port, "1:2:3", "write first:last"),
        (parse_port, "-1:5", "write first:last"),
        (parse_port, "a b", "is no name of a port"),
        (parse_port, "a" * 129, "is no name of a port"),
        (parse_port, "", "is no name of a port"),
        (parse_port, "9" * 5000, "1 to 65535"),
        (as_number, "1.1.1", "no AS number"),
        (as_number, "65536.1", "no AS number"),
        (as_number, -1, "no AS number"),
        (as_number, 2**32, "no AS number"),
        (as_number, "9" * 5000, "no AS number"),
        (dscp_number, 64, "no DSCP"),
        (dscp_number, "CS9", "no DSCP"),
        (dscp_number, "", "no DSCP"),
        (dscp_number, "\u0661", "no DSCP"),
    ],
)
def test_refusals(read, given, message):
    """What is no such number is refused with what would be one."""
    with pytest.raises(ModelError, match=message.replace("?", r"\?")):
        read(given)
