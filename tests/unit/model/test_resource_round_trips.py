"""Whatever is valid survives each way out and in again, of every kind that there is."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from calico.model.codec import decode_resource, encode, from_builtins, load, to_builtins, to_json, to_yaml
from calico.model.keys import KINDS, key_of, parse_path
from calico.model.validation import defaulted, problems_of
from support.resource_strategies import resources

each_kind = pytest.mark.parametrize("kind", KINDS)
thorough = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@each_kind
@thorough
@given(data=st.data())
def test_text(kind, data):
    """YAML and JSON that are read again give the same resource, which needs nothing more filled in."""
    resource = data.draw(resources(KINDS[kind]))

    assert load(to_yaml([resource])) == [resource]
    assert load(to_json([resource, resource])) == [resource, resource]
    assert from_builtins(to_builtins(resource)) == resource
    assert defaulted(resource) == resource
    assert problems_of(resource) == []


@each_kind
@thorough
@given(data=st.data())
def test_bytes(kind, data):
    """What is stored comes back as the same resource, from the path that its key names."""
    resource = data.draw(resources(KINDS[kind]))
    key = key_of(resource)

    found = decode_resource(key, encode(resource), 7)

    assert parse_path(key.path) == key
    assert found == replace(resource, metadata=replace(resource.metadata, resource_version="7"))


@each_kind
@thorough
@given(data=st.data())
def test_sentences(kind, data):
    """What is not done is said in a sentence, with a way out, about a place that the resource has."""
    resource = data.draw(resources(KINDS[kind]))
    tree = json.loads(to_json([resource]))

    for finding in resource.not_done():
        assert finding.message
        assert finding.remedy
        place = tree
        for step in finding.path:
            place = place[step]
