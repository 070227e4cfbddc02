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


READERS = {
    "numorstring.ASNumber": numbers.as_number,
    "numorstring.Port": numbers.parse_port,
    "numorstring.Protocol": numbers.protocol_number,
    "numorstring.DSCP": numbers.dscp_number,
}


def readings():
    for number, row in enumerate(rows("validation/ports-protocols-asn"), 1):
        if row["table"] != "NumOrStringJSONUnmarshaling":
            continue
        kinds = [
            each for each in READERS if each.split(".")[1].lower() in row["entry"].lower().replace(" ", "")
        ]
        try:
            given = json.loads(row["args"][0]["value"])
        except ValueError:
            continue  # no JSON at all
        if "reject" in row["entry"] or row["args"][2]["type"] == "numorstring.ASNumber":
            yield number, {**row, "given": given, "read": READERS[kinds[0]]}


@pytest.mark.parametrize("row", params(readings()))
def test_numbers(row):
    """AS numbers are read as elsewhere; ports and protocols that are refused there are refused here."""
    expected = row["args"][2]["string"]
    if expected is None:
        with pytest.raises(ModelError):
            row["read"](row["given"])
    else:
        assert str(row["read"](row["given"])) == expected


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
