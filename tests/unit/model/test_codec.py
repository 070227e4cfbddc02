"""Resources to and from YAML, JSON and the bytes of a store."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calico.model.bgp import BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec
from calico.model.codec import decode, encode, from_builtins, load, to_builtins, to_json, to_yaml
from calico.model.endpoint import WorkloadEndpoint, WorkloadEndpointSpec, WorkloadPort
from calico.model.errors import InvalidResources, ModelError
from calico.model.ipam import AllocationAttribute, BlockAffinity, IPAMBlock, IPAMHandle
from calico.model.keys import Key, key_of
from calico.model.networkset import GlobalNetworkSet, NetworkSetSpec
from calico.model.node import Node, NodeStatus
from calico.model.policy import (
    ICMP,
    EntityRule,
    GlobalNetworkPolicy,
    GlobalPolicySpec,
    NetworkPolicy,
    PolicySpec,
    Rule,
    Tier,
    TierSpec,
)
from calico.model.pool import IPPool, IPPoolSpec
from calico.model.resource import Metadata
from calico.model.yaml_text import documents

POLICY = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: allow-web
  namespace: shop
spec:
  order: 0
  selector: app == 'web'
  types: [Ingress]
  ingress:
    - action: Allow
      protocol: TCP
      source:
        selector: role == "client"
      destination:
        ports: [80, "8080:8090", http]
"""


def refused(text):
    with pytest.raises(InvalidResources) as caught:
        load(text, "file.yaml")
    return caught.value.problems


def only(text):
    problems = refused(text)
    assert len(problems) == 1, problems
    return problems[0]


def test_a_resource_is_read():
    """A YAML document becomes the resource that it describes, zeros included."""
    assert load(POLICY) == [
        NetworkPolicy(
            metadata=Metadata(name="allow-web", namespace="shop"),
            spec=PolicySpec(
                order=0.0,
                selector="app == 'web'",
                types=["Ingress"],
                ingress=[
                    Rule(
                        action="Allow",
                        protocol="TCP",
                        source=EntityRule(selector='role == "client"'),
                        destination=EntityRule(ports=[80, "8080:8090", "http"]),
                    )
                ],
            ),
        )
    ]


SET = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: %s}\n"


@pytest.mark.parametrize(
    "text",
    [
        SET % "a" + "---\n" + SET % "b",
        "# first\n---\n" + SET % "a" + "---\n# nothing\n---\n" + SET % "b" + "...\n",
        json.dumps([to_builtins(GlobalNetworkSet(metadata=Metadata(name=name))) for name in "ab"]),
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "List",
                "items": [to_builtins(GlobalNetworkSet(metadata=Metadata(name=name))) for name in "ab"],
            }
        ),
        json.dumps(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "GlobalNetworkSetList",
                "items": [{"metadata": {"name": "a"}, "spec": None}, {"metadata": {"name": "b"}}],
            }
        ),
        "- {apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: a}}\n"
        "- {apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: b}}\n",
    ],
    ids=["documents", "empty documents", "JSON list", "List", "list of a kind", "YAML list"],
)
def test_many_resources(text):
    """Documents, lists, and kinds that list others are read alike, in order."""
    assert [resource.metadata.name for resource in load(text)] == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "---\n---\n", "[]", "null", "{kind: List, items: null}"]
)
def test_nothing_is_no_error(text):
    """A text without resources holds none."""
    assert load(text) == []


def test_text_stays_text():
    """What YAML 1.1 takes for numbers and booleans is the text that it looks like."""
    (endpoint,) = load(
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\n"
        "metadata:\n"
        "  creationTimestamp: 2020-01-01T00:00:00Z\n"
        "  labels: {a: no, b: 010, c: off, d: on, e: y, f: 2001-01-01, g: 1_000}\n"
        "spec: {node: n, orchestrator: cni, containerID: 0x1g, endpoint: eth0, interfaceName: cali1,\n"
        "  mac: 11:22:33:44:55:55}\n"
    )

    assert endpoint.spec.mac == "11:22:33:44:55:55"
    assert endpoint.metadata.labels == {
        "a": "no",
        "b": "010",
        "c": "off",
        "d": "on",
        "e": "y",
        "f": "2001-01-01",
        "g": "1_000",
    }
    assert endpoint.metadata.creation_timestamp == "2020-01-01T00:00:00Z"


def test_merged_mappings():
    """Anchors, aliases and merge keys work as people know them, and a merged key may be overridden."""
    found = load(
        "- &first {apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: a}}\n"
        "- {<<: *first, metadata: {name: b}}\n"
    )

    assert [resource.metadata.name for resource in found] == ["a", "b"]


def test_all_problems_at_once():
    """Every problem of every document is reported, with its place, and nothing is returned."""
    problems = refused(
        POLICY.replace("NetworkPolicy", "NetworkPolice")
        + "---\n"
        + POLICY.replace("selector: app == 'web'", "selectr: app == 'web'").replace(
            "action: Allow", "action: allow"
        )
        + "---\n"
        + POLICY.replace("80,", "0,").replace('role == "client"', "role = client").replace("shop", "Shop")
    )

    assert [(problem.document, problem.line, problem.column, problem.field) for problem in problems] == [
        (0, 2, 7, "kind"),
        (1, 25, 3, "spec.selectr"),
        (1, 28, 15, "spec.ingress[0].action"),
        (2, 39, 14, "metadata.namespace"),
        (2, 48, 24, "spec.ingress[0].source.selector"),
        (2, 50, 17, "spec.ingress[0].destination.ports[0]"),
    ]
    assert [problem.remedy for problem in problems[:3]] == [
        "did you mean NetworkPolicy?",
        "did you mean selector?",
        "did you mean Allow?",
    ]


def test_a_problem_is_readable():
    """A problem names file, place, resource and field, says what is wrong and right, and shows the line."""
    problem = only(POLICY.replace("[Ingress]", "[\tIngres]"))

    assert str(problem) == (
        "file.yaml:9:12: NetworkPolicy/shop/allow-web: spec.types[0]: 'Ingres' is not allowed here; "
        "did you mean Ingress?\n"
        "      types: [\tIngres]\n"
        "              \t^"
    )


HEAD = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata:\n  name: a\n"


@pytest.mark.parametrize(
    ("text", "field", "message", "line"),
    [
        (HEAD.replace("v3", "v1"), "apiVersion", "'projectcalico.org/v1' is not ours", 1),
        (HEAD.replace("apiVersion: projectcalico.org/v3\n", ""), "apiVersion", "missing", 1),
        (HEAD.replace("kind: GlobalNetworkSet\n", ""), "kind", "missing", 1),
        (HEAD.replace("GlobalNetworkSet", "[a]"), "kind", "there is no kind a list", 2),
        (HEAD + "  labels: {a: 1}\n", "metadata.labels.a", "1 stands where text is expected", 5),
        (HEAD + "  labels: {1: a}\n", "metadata.labels.1", "the key is 1", 5),
        (HEAD + "  labels: {a: 1.10}\n", "metadata.labels.a", "1.1 stands where text is expected", 5),
        (HEAD + "  labels: [a]\n", "metadata.labels", "a list stands where a mapping is expected", 5),
        (
            HEAD + "spec:\n  nets: 10.0.0.0/8\n",
            "spec.nets",
            "'10.0.0.0/8' stands where a list is expected",
            6,
        ),
        (HEAD + "spec:\n  nets:\n  - a: b\n", "spec.nets[0]", "a mapping stands where text is expected", 7),
        (HEAD + "spec: x\n", "spec", "'x' stands where a mapping is expected", 5),
        (HEAD + "  name: b\n", "", "the key 'name' stands here a second time", 5),
        (HEAD + "spec: {nets: [a\n", "", "nothing closes the '['", 5),
        (
            HEAD + "  uid: !!python/object:os.system x\n",
            "",
            "the type '!!python/object:os.system' has no place here",
            5,
        ),
        ("just words\n", "", "'just words' stands where a resource is expected", 1),
        ("{" * 5000, "", "", 0),
        ("&a [*a]", "", "holds itself", 1),
    ],
)
def test_refusals(text, field, message, line):
    """Each kind of misfit is found at its field and its line."""
    problem = only(text)

    assert (problem.field, problem.line) == (field, line) or not line
    assert message in problem.message


def test_types_that_may_be_one_of_two():
    """A port or an AS number is a whole number or text; anything else is refused."""
    text = (
        "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: a}\n"
        "spec: {peerIP: 10.0.0.1, asNumber: %s}\n"
    )

    assert load(text % "64512")[0].spec.as_number == 64512
    assert load(text % '"1.10"')[0].spec.as_number == "1.10"
    assert "put it in quotes" in only(text % "1.10").remedy
    assert "a whole number or text" in only(text % "{}").message


def test_json_is_located_too():
    """JSON is read as JSON, and its problems have lines."""
    text = json.dumps(to_builtins(GlobalNetworkSet(metadata=Metadata(name="a b"))), indent=1)

    problem = only(text)

    assert problem.field == "metadata.name"
    assert problem.excerpt.strip().startswith('"name"')
    assert only(text.replace('"name": "a b"', '"kind": "x", "name": "a"', 1)).field == "metadata.kind"
    assert "a second time" in only('{"kind": "a", "kind": "b"}').message


def test_of_very_long_lines_a_piece_is_shown():
    """Of a line of many thousand characters only what stands around the place is shown."""
    text = '{"apiVersion": "projectcalico.org/v3", "metadata": {"name": "%s"}, "kind": "T"}' % ("x" * 5000)

    _, line, caret = str(only(text)).split("\n")

    assert line.endswith('"}, "kind": "T"}')
    assert line[caret.index("^") :] == '"T"}'
    assert len(line) < 120


def test_from_builtins():
    """Plain values are read as strictly as text."""
    assert from_builtins(to_builtins(load(POLICY)[0])) == load(POLICY)[0]
    with pytest.raises(InvalidResources, match=r"Tier/a: spec\.ordr: .* did you mean order\?"):
        from_builtins(
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "Tier",
                "metadata": {"name": "a"},
                "spec": {"ordr": 1},
            }
        )


EXAMPLES = [
    load(POLICY)[0],
    Tier(metadata=Metadata(name="t"), spec=TierSpec(order=0.0, default_action="Pass")),
    Tier(metadata=Metadata(name="u"), spec=TierSpec(order=1.5)),
    GlobalNetworkPolicy(
        metadata=Metadata(name="g", labels={"b": "1", "a": "no"}, annotations={"a/b": "10:20:30\n"}),
        spec=GlobalPolicySpec(
            types=[],
            egress=[
                Rule(action="Deny", protocol=1, icmp=ICMP(type=0, code=0)),
                Rule(action="Log", ip_version=4),
            ],
        ),
    ),
    GlobalNetworkSet(metadata=Metadata(name="s"), spec=NetworkSetSpec(nets=["1.1.1.1", "fd00::/64"])),
    BGPConfiguration(
        metadata=Metadata(name="default"),
        spec=BGPConfigurationSpec(node_to_node_mesh_enabled=False, as_number=0),
    ),
    BGPPeer(metadata=Metadata(name="p"), spec=BGPPeerSpec(peer_ip="10.0.0.1", ttl_security=0)),
    IPPool(metadata=Metadata(name="i"), spec=IPPoolSpec(cidr="10.0.0.0/16", block_size=26)),
    Node(metadata=Metadata(name="n"), status=NodeStatus(pod_cidrs=["10.0.0.0/24"])),
    WorkloadEndpoint(
        metadata=Metadata(name="n-cni-0123-eth0", namespace="ns"),
        spec=WorkloadEndpointSpec(
            node="n",
            orchestrator="cni",
            container_id="0123",
            endpoint="eth0",
            interface_name="cali1",
            mac="11:22:33:44:55:55",
            ports=[WorkloadPort(name="http", port=80)],
        ),
    ),
]
each_example = pytest.mark.parametrize("resource", EXAMPLES, ids=lambda found: str(key_of(found)))


@each_example
def test_text_round_trip(resource):
    """What is written as YAML or JSON is read as the same resource, zeros and odd texts included."""
    assert load(to_yaml([resource, resource])) == [resource, resource]
    assert load(to_json([resource])) == [resource]
    assert load(to_json([resource, resource])) == [resource, resource]
    assert load(to_json([])) == load(to_yaml([])) == []


@each_example
def test_store_round_trip(resource):
    """What is stored comes back as the same resource, at the store's revision."""
    stored = encode(resource)
    back = decode(key_of(resource), stored, 7)

    assert stored.startswith(b'{"apiVersion":"projectcalico.org/v3","kind":"' + resource.kind.encode())
    assert b"resourceVersion" not in encode(back)
    assert back == msgspec.structs.replace(
        resource, metadata=msgspec.structs.replace(resource.metadata, resource_version="7")
    )
    assert encode(back) == stored


def test_equal_values_have_equal_bytes():
    """The order in which labels were written makes no difference to what is stored."""
    first, second = (
        GlobalNetworkSet(metadata=Metadata(name="s", labels=labels))
        for labels in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    )

    assert encode(first) == encode(second)


def test_stored_json_is_what_other_readers_expect():
    """A policy's tier and a workload port's protocol are written although they are defaults."""
    policy = NetworkPolicy(metadata=Metadata(name="p", namespace="n"))
    endpoint = EXAMPLES[-1]

    assert json.loads(encode(policy)) == {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "n"},
        "spec": {"tier": "default"},
    }
    assert json.loads(encode(endpoint))["spec"]["ports"] == [
        {"name": "http", "protocol": "TCP", "port": 80, "hostPort": 0, "hostIP": ""}
    ]


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (
            Key("IPAMBlock", "10.0.0.0/30"),
            IPAMBlock(
                cidr="10.0.0.0/30",
                affinity="host:a",
                allocations=[None, 0, None, None],
                unallocated=[0, 2, 3],
                attributes=[AllocationAttribute(handle_id="h", secondary={"node": "a"})],
                sequence_number=3,
                sequence_number_for_allocation={"1": 2},
            ),
        ),
        (Key("BlockAffinity", "10.0.0.0/30", "host:a"), BlockAffinity(state="confirmed", deleted=False)),
        (Key("IPAMHandle", "h"), IPAMHandle(block={"10.0.0.0/30": 1}, handle_id="h")),
    ],
    ids=lambda found: found.kind if isinstance(found, Key) else "",
)
def test_records_round_trip(key, record):
    """IPAM's records come back as they were stored; free ordinals stay null."""
    assert decode(key, encode(record), 1) == record


def test_records_are_written_as_others_read_them():
    """IPAM's records have the field names of Calico's store."""
    block = IPAMBlock(
        cidr="10.0.0.0/32",
        affinity_claim_time="2020-01-01T00:00:00Z",
        allocations=[0],
        unallocated=[],
        attributes=[AllocationAttribute(handle_id="h", released_at="2020-01-02T00:00:00Z")],
    )

    assert json.loads(encode(block)) == {
        "cidr": "10.0.0.0/32",
        "affinity": None,
        "affinity_claim_time": "2020-01-01T00:00:00Z",
        "allocations": [0],
        "unallocated": [],
        "attributes": [
            {
                "handle_id": "h",
                "secondary": None,
                "alternateOwnerAttrs": None,
                "releasedAt": "2020-01-02T00:00:00Z",
            }
        ],
        "sequenceNumber": 0,
        "sequenceNumberForAllocation": {},
        "deleted": False,
    }


def test_old_affinities_are_empty():
    """An affinity without any value is one that an old writer confirmed."""
    assert decode(Key("BlockAffinity", "10.0.0.0/26", "host:a"), b"", 1) == BlockAffinity(state="confirmed")


def test_other_writers_are_tolerated():
    """Fields of newer writers and nulls of careless ones are passed over, at any depth."""
    stored = json.dumps(
        {
            "apiVersion": "projectcalico.org/v3",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "n", "creationTimestamp": None, "novel": 1},
            "spec": {
                "selector": None,
                "egress": None,
                "novel": {"a": 1},
                "ingress": [{"action": "Allow", "novel": 1, "source": {"nets": ["10.0.0.1"], "novel": 1}}],
            },
            "status": {},
        }
    ).encode()

    assert decode(Key("NetworkPolicy", "p", "n"), stored, 3) == NetworkPolicy(
        metadata=Metadata(name="p", namespace="n", resource_version="3"),
        spec=PolicySpec(ingress=[Rule(action="Allow", source=EntityRule(nets=["10.0.0.1"]))]),
    )


def test_the_key_names_what_is_stored():
    """Name and namespace of what a store holds are those of its key, whatever the value says."""
    stored = encode(NetworkPolicy(metadata=Metadata(name="other")))

    assert key_of(decode(Key("NetworkPolicy", "p", "n"), stored, 3)) == Key("NetworkPolicy", "p", "n")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Key("Tier", "a"), b""),
        (Key("Tier", "a"), b"\xff\xfe"),
        (Key("Tier", "a"), b"[]"),
        (Key("Tier", "a"), b'{"kind": "Node"}'),
        (Key("Tier", "a"), b'{"kind": "Tier", "spec": {"order": "first"}}'),
        (Key("HostEndpoint", "a"), b'{"kind": "HostEndpoint"}'),
        (Key("IPAMBlock", "10.0.0.0/26"), b"{}"),
        (Key("Novelty", "a"), b"{}"),
        (Key("Tier", "a"), b'{"kind": "Tier", "spec": ' + b"[" * 100_000 + b"}"),
    ],
)
def test_garbage_in_a_store(key, value):
    """What is not of its kind is refused with its key."""
    with pytest.raises(ModelError, match=str(key)):
        decode(key, value, 1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            b'{"kind": "Tier", "spec": {"order": "first", "novel": 1}}',
            "spec.order: 'first' stands where a number",
        ),
        (
            b'{"kind": "Tier", "spec": {"order": "a", "defaultAction": "b"}}',
            "is expected (and 1 more); whoever",
        ),
        (b'{"kind": "Tier"', "this is no Tier: Input data was truncated; whoever wrote it"),
        (b"[]", "a list stands where a mapping is expected; whoever wrote it has to correct it"),
    ],
)
def test_what_is_wrong_in_a_store(value, expected):
    """Of a stored value that is nothing of its kind the field is named, as in people's text."""
    with pytest.raises(ModelError) as caught:
        decode(Key("Tier", "a"), value, 1)

    assert str(caught.value).startswith("Tier/a: ")
    assert expected in str(caught.value)


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=10), max_size=4))
def test_any_text_survives_yaml(annotations):
    """No text is taken for something else on its way through YAML."""
    written = to_yaml([GlobalNetworkSet(metadata=Metadata(name="s", annotations=annotations))])

    (back,) = documents(written)

    assert back["metadata"].get("annotations", {}) == annotations


@pytest.mark.parametrize(
    "text",
    ["no", "1e3", "0o17", "010", "0x1f", "~", "", "1_0", "1:2:3", "<<", "=", ".inf", "1.", "-", "2001-01-01"],
)
def test_ambiguous_text_is_quoted(text):
    """Text that some reader takes for another type is written in quotes."""
    written = to_yaml([GlobalNetworkSet(metadata=Metadata(name="s", labels={"a": text}))])

    assert f"a: '{text}'\n" in written
    assert next(documents(written))["metadata"]["labels"] == {"a": text}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n", 7, 4, "comes to millions"),
        ("spec: &spec\n  ingress: *spec\n", 1, 7, "holds itself"),
    ],
)
def test_what_is_repeated_has_bounds(text, line, column, message):
    """A few lines that stand for millions of values, or for an endless one, are refused at once, with the place."""
    if "spec" not in text:
        text += "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
            for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        )

    problem = only(text)

    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1e999", "the number 1e999 is too large"),
        ("-1e999", "the number -1e999 is too large"),
        ("9" * 5000, "the number 99999999999999999999... has too many digits"),
        (r'"\ud800"', r"\ud800 is no character by itself"),
    ],
)
@pytest.mark.parametrize("text", ["spec:\n  order: VALUE\n", '{"spec":\n  {"order": VALUE}}'])
def test_values_that_nothing_can_hold(text, value, message):
    """A number beyond all numbers, and half a character, are refused where they stand, and never stored as something else."""
    problem = only(text.replace("VALUE", value))

    assert problem.message == message
    assert problem.line == 2
    assert problem.excerpt[problem.column - 1 :].lstrip('"').startswith(value.strip('"'))
