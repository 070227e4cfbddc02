"""Validation, numbers and names against cases that other implementations agreed on."""

import json
from pathlib import Path

import msgspec
import pytest

from calico.model import numbers
from calico.model.endpoint import WorkloadEndpointSpec
from calico.model.errors import ModelError
from calico.model.keys import KINDS
from calico.model.names import BadName, EndpointName, parse_endpoint_name
from calico.model.policy import Port, Protocol
from calico.model.resource import shown
from calico.model.validation import defaulted, problems_of

CASES = Path(__file__).parents[3] / "shared" / "conformance"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared conformance cases are not here")


def rows(name):
    path = CASES / f"{name}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def params(found):
    return [pytest.param(row, id=f"{number}-{row.get('case') or row.get('entry')}") for number, row in found]


NAMED_BY_SPEC = {"BlockAffinity", "WorkloadEndpoint"}
"""Kinds whose names are made of their specs; the cases judge fields, and use any name."""


@pytest.mark.parametrize("row", params(enumerate(rows("validation/resources"), 1)))
def test_resources(row):
    """A resource is valid here if it is elsewhere; and then it is valid, too, with everything filled in."""
    try:
        resource = msgspec.convert(row["resource"], KINDS[row["resource"]["kind"]])
    except msgspec.ValidationError:
        assert not row["valid"]
        return
    named_by_spec = resource.kind in NAMED_BY_SPEC

    def problems(of):
        return [each for each in problems_of(of) if not (named_by_spec and each.path == ("metadata", "name"))]

    assert (problems(resource) == []) is row["valid"]
    assert not row["valid"] or problems(defaulted(resource)) == []


NUMBERS = [(number, row) for number, row in enumerate(rows("validation/ports-protocols-asn"), 1)]
READERS = {
    "ASNumber": numbers.as_number,
    "Port": numbers.parse_port,
    "Protocol": numbers.protocol_number,
    "DSCP": numbers.dscp_number,
}
TYPES = {"ASNumber": int | str, "Port": Port, "Protocol": Protocol, "DSCP": int | str}
LATE = {
    ("Port", "0"),
    ("Port", '"0:65535"'),
    ("Protocol", "0"),
    ("Protocol", '"0"'),
    ("Protocol", '"256"'),
}
"""What the reference reads and its validation refuses then; here reading refuses it."""


def table(name):
    found = [(number, row) for number, row in NUMBERS if row["table"] == f"NumOrString{name}"]
    return pytest.mark.parametrize("row", params(found))


def number_kind(row):
    """Which of the four kinds of numbers a row is about, by its entry."""
    words = row["entry"].lower().replace(" ", "")
    return next(kind for kind in READERS if kind.lower() in words)


def test_all_tables_are_read():
    """No row of numbers is passed over."""
    read = {
        *("JSONUnmarshaling", "JSONMarshaling", "Stringify", "ProtocolsSupportingPorts"),
        *("Protocols FromString is not case-sensitive", "Protocols FromStringV1 is lowercase"),
        *(" named ports", "DSCP FromString is not case-sensitive", "DSCP ToUint8 returns valid values"),
        "DSCP Validate method validates string inputs correctly",
        "DSCP Validate method validates numerical inputs correctly",
    }

    assert {row["table"].removeprefix("NumOrString") for _, row in NUMBERS} == read


@table("JSONUnmarshaling")
def test_reading_numbers(row):
    """Numbers in JSON are read as elsewhere, or refused."""
    kind = number_kind(row)
    text, _, expected = row["args"]
    if expected["value"] is None:
        with pytest.raises((ModelError, msgspec.MsgspecError)):
            READERS[kind](msgspec.json.decode(text["value"], type=TYPES[kind]))
        return
    value = msgspec.json.decode(text["value"], type=TYPES[kind])
    if (kind, text["value"]) in LATE:
        with pytest.raises(ModelError):
            READERS[kind](value)
        return
    read = READERS[kind](value)
    assert str(read) == expected["string"] if kind == "ASNumber" else str(value) == expected["string"]


@table("JSONMarshaling")
def test_writing_numbers(row):
    """Numbers are written in JSON as elsewhere."""
    given, expected = row["args"]

    assert msgspec.json.encode(given["value"]).decode() == expected["value"]


@table("Stringify")
def test_showing_numbers(row):
    """Numbers are shown as elsewhere."""
    given, expected = row["args"]

    assert shown(given["value"]) == expected["value"]


@table("ProtocolsSupportingPorts")
def test_protocols_with_ports(row):
    """The same protocols have ports as elsewhere."""
    given, expected = row["args"]
    try:
        found = numbers.protocol_number(given["value"]) in numbers.WITH_PORTS
    except ModelError:
        found = False

    assert found is expected["value"]


@table("Protocols FromString is not case-sensitive")
def test_protocols_in_other_cases(row):
    """A protocol in another case is refused, and the right name is told; a manifest elsewhere needs that, too."""
    given, expected = (arg["value"] for arg in row["args"])
    hint = f"did you mean {expected}" if given != expected else "is no protocol"

    with pytest.raises(ModelError, match=hint):
        numbers.protocol_number(given)


@table("Protocols FromStringV1 is lowercase")
def test_protocols_of_old(row):
    """The names that the reference's old model has in lower case are the ones that are known here."""
    given, expected = (arg["value"] for arg in row["args"])
    if expected == "xxxxxx":
        with pytest.raises(ModelError):
            numbers.protocol_number(given)
    else:
        known = {name.lower(): number for name, number in numbers.PROTOCOLS.items()}
        assert numbers.protocol_number(given) == known.get(expected, expected)


@table(" named ports")
def test_names_of_ports(row):
    """Ports are called as elsewhere; digits are a number."""
    given, expected, valid = (arg["value"] for arg in row["args"])
    if valid:
        assert str(numbers.port_name(given)) == str(expected)
    else:
        with pytest.raises(ModelError):
            numbers.port_name(given)


@table("DSCP FromString is not case-sensitive")
def test_dscp_in_other_cases(row):
    """A DSCP may be written in any case."""
    given, expected = (arg["value"] for arg in row["args"])
    if given == expected:  # an unknown name
        with pytest.raises(ModelError):
            numbers.dscp_number(given)
    else:
        assert numbers.dscp_number(given) == numbers.dscp_number(expected)


@table("DSCP ToUint8 returns valid values")
def test_dscp_as_a_number(row):
    """A DSCP has the same number as elsewhere; a name that is 0 there because nobody knows it is refused here."""
    given, expected = (arg["value"] for arg in row["args"])
    if given == "BE":
        with pytest.raises(ModelError):
            numbers.dscp_number(given)
    else:
        assert numbers.dscp_number(given) == expected


@table("DSCP Validate method validates string inputs correctly")
def test_valid_dscp_names(row):
    """The same texts are DSCPs as elsewhere."""
    assert _is_dscp(row)


@table("DSCP Validate method validates numerical inputs correctly")
def test_valid_dscp_numbers(row):
    """The same numbers are DSCPs as elsewhere."""
    assert _is_dscp(row)


def _is_dscp(row):
    given, valid = (arg["value"] for arg in row["args"])
    try:
        numbers.dscp_number(given)
    except ModelError:
        return not valid
    return valid


def spec(identifiers):
    return WorkloadEndpointSpec(
        node=identifiers["Node"],
        orchestrator=identifiers["Orchestrator"],
        workload=identifiers["Workload"],
        pod=identifiers["Pod"],
        container_id=identifiers["ContainerID"],
        endpoint=identifiers["Endpoint"],
    )


def names(table):
    found = enumerate(rows("names/workloadendpoint"), 1)
    return params((number, row) for number, row in found if row["table"] == f"WorkloadEndpoint-name-{table}")


@pytest.mark.parametrize("row", names("construction,-fully-qualified-names"))
def test_whole_names(row):
    """An endpoint is named as elsewhere, or refused for the same field."""
    identifiers, expected, field = row["args"]
    if field:
        with pytest.raises(BadName) as caught:
            EndpointName.of(spec(identifiers)).text()
        assert caught.value.field == field
    else:
        assert EndpointName.of(spec(identifiers)).text() == expected


@pytest.mark.parametrize("row", names("construction,-name-prefix"))
def test_prefixes(row):
    """The prefix of a name is made as elsewhere, or refused for the same field."""
    identifiers, expected, field = row["args"]
    if field:
        with pytest.raises(BadName) as caught:
            EndpointName.of(spec(identifiers)).prefix()
        assert caught.value.field == field
    else:
        assert EndpointName.of(spec(identifiers)).prefix() == expected


@pytest.mark.parametrize("row", names("matching"))
def test_matching(row):
    """A name is matched by the parts that are known, as elsewhere."""
    identifiers, name, expected, field = row["args"]
    if field:
        with pytest.raises(BadName) as caught:
            EndpointName.of(spec(identifiers)).matches(name)
        assert caught.value.field == field
    else:
        assert EndpointName.of(spec(identifiers)).matches(name) is expected


@pytest.mark.parametrize("row", names("parsing"))
def test_parsing(row):
    """A name is taken apart as elsewhere."""
    name, refused, identifiers = row["args"]
    if refused:
        with pytest.raises(BadName):
            parse_endpoint_name(name)
    else:
        assert parse_endpoint_name(name) == EndpointName.of(spec(identifiers))
