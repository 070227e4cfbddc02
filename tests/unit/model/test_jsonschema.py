"""JSON Schema of the kinds: it accepts what the codec accepts, and sees what an editor should see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from calico.model.jsonschema import schema_of
from calico.model.keys import BY_TYPE, KINDS
from calico.model.yaml_text import documents
from support.json_schema import violations

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(
    file
    for directory in ("examples", "src/calico/lab/example")
    for file in (ROOT / directory).rglob("*.yaml")
)
WHOLE = schema_of(list(KINDS.values()))

POLICY = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec: {order: 1, types: [Ingress], ingress: [{action: Allow, protocol: 6, source: {nets: [10.0.0.0/8]}}]}
"""


def _resources(file: Path) -> list[dict[str, Any]]:
    trees = [tree for tree in documents(file.read_text()) if isinstance(tree, dict)]
    return [tree for tree in trees if (tree.get("apiVersion"), tree.get("kind")) in BY_TYPE]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_every_example_fits(file: Path) -> None:
    """The schema of its kind, and the schema of all kinds."""
    for tree in _resources(file):
        assert [*violations(tree, WHOLE, WHOLE)] == []
        own = schema_of([BY_TYPE[tree["apiVersion"], tree["kind"]]])
        assert [*violations(tree, own, own)] == []


def test_there_are_examples() -> None:
    """The test above looks at something."""
    assert sum(len(_resources(file)) for file in EXAMPLES) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema_that_says_what_it_is(kind: str) -> None:
    """Closed at the top: what is no field is seen; all references lead somewhere."""
    schema = schema_of([KINDS[kind]])
    assert schema["additionalProperties"] is False
    assert {"apiVersion", "kind", "metadata"} <= set(schema["required"])
    assert ("namespace" in schema["properties"]["metadata"]["properties"]) == KINDS[kind].NAMESPACED
    text = repr(schema)
    references = {part.partition("'")[0] for part in text.split("#/$defs/")[1:]}
    assert references <= set(schema["$defs"])


WRONG = {
    "kind: NetworkPolicy": ("kind: Policy", "'Policy' is not"),
    "action: Allow": ("action: allow", "'allow' is not one of"),
    "order: 1": ("order: first", "is no number"),
    "types: [Ingress]": ("types: Ingress", "is no array"),
    "protocol: 6": ("protcol: 6", "protcol is not known"),
    "name: web, ": ("", "name is missing"),
    "10.0.0.0/8": ("10", "is no string"),
}


@pytest.mark.parametrize("right", WRONG)
def test_what_an_editor_should_see(right: str) -> None:
    """Misspelt fields and words, wrong types, what is missing."""
    wrong, words = WRONG[right]
    schema = schema_of([KINDS["NetworkPolicy"]])
    assert [*violations(yaml.safe_load(POLICY), schema, schema)] == []
    found = [*violations(yaml.safe_load(POLICY.replace(right, wrong)), schema, schema)]
    assert any(words in each for each in found), found


def test_names_that_there_can_be_only_one_of() -> None:
    """And names of which the form is known."""
    cluster = schema_of([KINDS["ClusterInformation"]])["properties"]["metadata"]["properties"]
    assert cluster["name"] == {"const": "default"}
    pool = schema_of([KINDS["IPPool"]])
    tree = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "spec": {"cidr": "10.0.0.0/16"}}
    assert [*violations({**tree, "metadata": {"name": "a.b-c"}}, pool, pool)] == []
    assert [*violations({**tree, "metadata": {"name": "A"}}, pool, pool)] != []


def test_a_name_that_is_made_of_the_spec_may_be_left_out() -> None:
    """As the codec allows."""
    assert schema_of([KINDS["WorkloadEndpoint"]])["properties"]["metadata"]["required"] == []
    assert schema_of([KINDS["Tier"]])["properties"]["metadata"]["required"] == ["name"]
