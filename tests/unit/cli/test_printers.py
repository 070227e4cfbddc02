"""Tables, YAML and JSON: the whole text, as a person sees it."""

from __future__ import annotations

import json
from textwrap import dedent

import pytest

from calico.cli import printers
from calico.model import codec
from calico.model.keys import KINDS, Key
from calico.model.resource import API_VERSION, Resource

HEAD = {"apiVersion": "projectcalico.org/v3"}


def _resource(kind: str, name: str, spec: dict, **metadata: object) -> Resource:
    return codec.from_builtins({**HEAD, "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec})


CASES = {
    "BFDConfiguration": (
        {"nodeSelector": "rack == '1'", "interfaces": [{"matchPattern": "eth*"}, {"matchPattern": "*"}]},
        """\
        NAME      NODES         INTERFACES
        default   rack == '1'   eth*,*
        """,
        None,
    ),
    "BGPConfiguration": (
        {"asNumber": 64512, "nodeToNodeMeshEnabled": False, "logSeverityScreen": "Info"},
        """\
        NAME      LOGSEVERITY   MESHENABLED   ASNUMBER
        default   Info          false         64512
        """,
        None,
    ),
    "BGPFilter": (
        {"exportV4": [{"action": "Accept"}, {"action": "Reject"}], "importV6": [{"action": "Accept"}]},
        """\
        NAME      NUMEXPORTV4   NUMIMPORTV4   NUMEXPORTV6   NUMIMPORTV6
        default   2             0             0             1
        """,
        None,
    ),
    "BGPPeer": (
        {"peerIP": "10.0.0.1", "asNumber": 64512, "node": "host-1"},
        """\
        NAME      PEERIP     NODE     ASN
        default   10.0.0.1   host-1   64512
        """,
        None,
    ),
    "BlockAffinity": (
        {"state": "confirmed", "node": "host-1", "type": "host", "cidr": "10.0.0.0/26"},
        """\
        NAME                 CIDR          NODE     STATE
        host-1-10-0-0-0-26   10.0.0.0/26   host-1   confirmed
        """,
        """\
        NAME                 CIDR          NODE     STATE       TYPE
        host-1-10-0-0-0-26   10.0.0.0/26   host-1   confirmed   host
        """,
    ),
    "CalicoNodeStatus": (
        {"node": "host-1", "classes": ["Agent", "BGP"], "updatePeriodSeconds": 10},
        """\
        NAME      NODE
        default   host-1
        """,
        """\
        NAME      NODE     CLASSES     INTERVAL   LASTUPDATED
        default   host-1   Agent,BGP   10
        """,
    ),
    "ClusterInformation": (
        {"clusterGUID": "1-2", "clusterType": "k8s,bgp", "calicoVersion": "v3.30.0", "datastoreReady": True},
        """\
        NAME      CLUSTERGUID   CLUSTERTYPE   CALICOVERSION   DATASTOREREADY
        default   1-2           k8s,bgp       v3.30.0         true
        """,
        None,
    ),
    "FelixConfiguration": (
        {"logSeverityScreen": "Debug", "ipv6Support": False},
        """\
        NAME      LOGSEVERITY
        default   Debug
        """,
        None,
    ),
    "GlobalNetworkPolicy": (
        {"tier": "default", "order": 10, "selector": "app == 'web'"},
        """\
        NAME      TIER
        default   default
        """,
        """\
        NAME      TIER      ORDER   SELECTOR
        default   default   10      app == 'web'
        """,
    ),
    "GlobalNetworkSet": (
        {"nets": ["10.0.0.0/8", "fd00::/8"]},
        """\
        NAME      NETS
        default   10.0.0.0/8,fd00::/8
        """,
        None,
    ),
    "HostEndpoint": (
        {"node": "host-1", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1"], "profiles": ["a", "b"]},
        """\
        NAME      NODE
        default   host-1
        """,
        """\
        NAME      NODE     INTERFACE   IPS        PROFILES
        default   host-1   eth0        10.0.0.1   a,b
        """,
    ),
    "IPAMBlock": (
        {
            "cidr": "10.0.0.0/31",
            "affinity": "host:host-1",
            "allocations": [0, None],
            "unallocated": [1],
            "attributes": [{"handle_id": "a"}],
        },
        """\
        NAME          CIDR          AFFINITY      FREE
        10-0-0-0-31   10.0.0.0/31   host:host-1   1
        """,
        """\
        NAME          CIDR          AFFINITY      FREE   SIZE
        10-0-0-0-31   10.0.0.0/31   host:host-1   1      2
        """,
    ),
    "IPAMConfiguration": (
        {"strictAffinity": True, "maxBlocksPerHost": 4},
        """\
        NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS
        default   true             true
        """,
        """\
        NAME      STRICTAFFINITY   AUTOALLOCATEBLOCKS   MAXBLOCKSPERHOST
        default   true             true                 4
        """,
    ),
    "IPAMHandle": (
        {"handleID": "default", "block": {"10.0.1.0/26": 2, "10.0.0.0/26": 1}},
        """\
        NAME      ADDRESSES
        default   3
        """,
        """\
        NAME      ADDRESSES   BLOCKS
        default   3           10.0.0.0/26,10.0.1.0/26
        """,
    ),
    "IPPool": (
        {"cidr": "10.0.0.0/16", "natOutgoing": True},
        """\
        NAME      CIDR          SELECTOR
        default   10.0.0.0/16   all()
        """,
        """\
        NAME      CIDR          NAT    IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE
        default   10.0.0.0/16   true   Never      Never       false      false              all()      Automatic
        """,
    ),
    "IPReservation": (
        {"reservedCIDRs": ["10.0.0.0/30", "fd00::/126"]},
        """\
        NAME
        default
        """,
        """\
        NAME      CIDRS
        default   10.0.0.0/30,fd00::/126
        """,
    ),
    "LiveMigration": (
        {
            "source": {"workload": {"orchestratorID": "k8s", "workloadID": "shop/web"}},
            "target": {"selector": "has(app)"},
        },
        """\
        NAME
        default
        """,
        None,
    ),
    "KubeControllersConfiguration": (
        {"logSeverityScreen": "Info"},
        """\
        NAME
        default
        """,
        """\
        NAME      LOGSEVERITY
        default   Info
        """,
    ),
    "NetworkPolicy": (
        {"order": 0.5, "selector": ""},
        """\
        NAME      TIER
        default   default
        """,
        """\
        NAME      TIER      ORDER   SELECTOR
        default   default   0.5     all()
        """,
    ),
    "NetworkSet": (
        {"nets": ["10.0.0.1"]},
        """\
        NAME      NETS
        default   10.0.0.1
        """,
        None,
    ),
    "Node": (
        {"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": 64512}},
        """\
        NAME
        default
        """,
        """\
        NAME      ASN     IPV4          IPV6
        default   64512   10.0.0.1/24
        """,
    ),
    "Profile": (
        {"labelsToApply": {"b": "2", "a": "1"}},
        """\
        NAME
        default
        """,
        """\
        NAME      LABELS
        default   a=1,b=2
        """,
    ),
    "StagedGlobalNetworkPolicy": (
        {"tier": "security", "order": 5, "stagedAction": "Learn"},
        """\
        NAME      TIER
        default   security
        """,
        """\
        NAME      TIER       ORDER   SELECTOR
        default   security   5       all()
        """,
    ),
    "StagedKubernetesNetworkPolicy": (
        {
            "podSelector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [
                    {"key": "role", "operator": "NotIn", "values": ["a", "b"]},
                    {"key": "old", "operator": "DoesNotExist"},
                ],
            }
        },
        """\
        NAME
        default
        """,
        """\
        NAME      PODSELECTOR
        default   app=web,role notin (a,b),!old
        """,
    ),
    "StagedNetworkPolicy": (
        {"selector": "app == 'web'"},
        """\
        NAME      TIER
        default   default
        """,
        """\
        NAME      TIER      ORDER   SELECTOR
        default   default           app == 'web'
        """,
    ),
    "Tier": (
        {"order": 1000000, "defaultAction": "Deny"},
        """\
        NAME      ORDER
        default   1000000
        """,
        None,
    ),
    "WorkloadEndpoint": (
        {
            "node": "host-1",
            "orchestrator": "openstack",
            "workload": "web",
            "endpoint": "eth0",
            "interfaceName": "cali1",
            "ipNetworks": ["10.0.0.7/32"],
            "profiles": ["kns.shop"],
        },
        """\
        WORKLOAD   NODE     NETWORKS      INTERFACE
        web        host-1   10.0.0.7/32   cali1
        """,
        """\
        NAME                         WORKLOAD   NODE     NETWORKS      INTERFACE   PROFILES   NATS
        host--1-openstack-web-eth0   web        host-1   10.0.0.7/32   cali1       kns.shop
        """,
    ),
}


NAMES = {
    "BlockAffinity": "host-1-10-0-0-0-26",
    "IPAMBlock": "10-0-0-0-31",
    "WorkloadEndpoint": "host--1-openstack-web-eth0",
}
"""Names that are made of the spec."""


def test_every_kind_has_a_golden_table() -> None:
    """No kind is printed that nobody looked at; Kubernetes' own are looked at elsewhere."""
    assert set(CASES) == {word for word, kind in KINDS.items() if kind.API_VERSION == API_VERSION}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("wide", [False, True])
def test_table(kind: str, wide: bool) -> None:
    """A table has calicoctl's columns, aligned, no trailing blanks; a wide one has more of them."""
    spec, narrow_text, wide_text = CASES[kind]
    name = NAMES.get(kind, "default")
    text = printers.table([_resource(kind, name, spec)], KINDS[kind], wide=wide, namespaces=False)
    expected = dedent(wide_text if wide and wide_text else narrow_text)
    assert text + "\n" == expected


def test_columns_are_as_wide_as_their_widest_cell_and_three_blanks_apart() -> None:
    """Headings and cells begin at the same column."""
    assert printers.aligned([["NAME", "NETS"], ["a-longer-name", "x"], ["b", ""]]) == (
        "NAME            NETS\na-longer-name   x\nb"
    )


def test_the_namespace_comes_first_where_it_matters() -> None:
    """Resources of several namespaces say which; kinds without namespaces have no such column."""
    policy = _resource("NetworkPolicy", "web", {}, namespace="shop")
    tier = _resource("Tier", "a", {"order": 1})
    assert printers.table([policy], type(policy), wide=False, namespaces=True) == (
        "NAMESPACE   NAME   TIER\nshop        web    default"
    )
    assert printers.table([tier], type(tier), wide=False, namespaces=True) == "NAME   ORDER\na      1"


def test_nothing_found_is_a_line_of_headings() -> None:
    """An empty table still says what was looked for."""
    assert printers.table([], KINDS["Tier"], wide=False, namespaces=False) == "NAME   ORDER"


def test_long_sets_are_cut_in_tables_only() -> None:
    """A set of thousands leaves the table readable; the dots say that there is more."""
    nets = [f"10.0.{number}.0/24" for number in range(100)]
    resource = _resource("GlobalNetworkSet", "a", {"nets": nets})
    _, line = printers.table([resource], type(resource), wide=True, namespaces=False).splitlines()
    assert line == f"a      {','.join(nets)[:77]}..."
    assert printers.document([resource], None)["spec"]["nets"] == nets


def test_what_others_stored_cannot_break_a_line_or_drive_the_terminal() -> None:
    """Control characters of a stored name are shown as blanks."""
    evil = codec.decode(Key("Node", "a\x1b[2J\nb"), b'{"kind":"Node","metadata":{"name":"x"},"spec":{}}', 1)
    assert isinstance(evil, Resource)
    assert printers.table([evil], KINDS["Node"], wide=False, namespaces=False) == "NAME\na [2J b"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_all_of_a_kind_is_a_list_however_many_there_are(count: int) -> None:
    """Scripts that read ``get KIND -o json`` find ``items`` always."""
    tiers = [_resource("Tier", name, {"order": 1}) for name in ("a", "b")[:count]]
    tree = printers.document(tiers, KINDS["Tier"])
    assert (tree["kind"], [each["metadata"]["name"] for each in tree["items"]]) == (
        "TierList",
        ["a", "b"][:count],
    )


def test_one_by_name_stands_by_itself_and_several_are_a_list() -> None:
    """``get KIND NAME -o yaml`` is the resource itself."""
    tiers = [_resource("Tier", name, {"order": 1}) for name in ("a", "b")]
    assert printers.document(tiers[:1], None)["kind"] == "Tier"
    assert printers.document(tiers, None)["kind"] == "List"


@pytest.mark.parametrize("text", [printers.yaml_text, printers.json_text])
@pytest.mark.parametrize("kind", CASES)
def test_what_is_shown_can_be_applied_again(kind: str, text) -> None:
    """YAML and JSON of a list are read back as the same resources."""
    name = NAMES.get(kind, "default")
    resource = _resource(kind, name, CASES[kind][0])
    assert codec.load(text(printers.document([resource], KINDS[kind]))) == [resource]


def test_json_keeps_letters_as_they_are() -> None:
    """People read annotations in their own language."""
    tier = _resource("Tier", "a", {"order": 1}, annotations={"why": "für später"})
    text = printers.json_text(printers.document([tier], None))
    assert "für später" in text
    assert json.loads(text)["metadata"]["annotations"] == {"why": "für später"}
