"""What the environment and calicoctl.cfg say about the store, put together; nothing is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico.datastore.connection import (
    BadSetting,
    Setting,
    connection,
    from_config,
    from_environment,
    from_felix,
    names_a_store,
    over,
)
from calico.datastore.etcd_settings import Endpoint, EtcdSettings
from calico.datastore.location import Datastore

HEAD = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nmetadata:\nspec:\n"


def config(*lines: str, head: str = HEAD) -> bytes:
    return (head + "".join(f"  {line}\n" for line in lines)).encode()


def etcd(**given: str) -> EtcdSettings:
    found = connection({name: Setting(value, name.upper()) for name, value in given.items()}, "/default")
    assert isinstance(found, EtcdSettings)
    return found


WHOLE = {
    "datastoreType": "etcdv3",
    "etcdEndpoints": "https://10.0.0.1:2379,https://10.0.0.2:2379",
    "etcdUsername": "root",
    "etcdPassword": "secret",
    "etcdCACertFile": "/ca",
    "etcdCertFile": "/cert",
    "etcdKeyFile": "/key",
    "etcdPrefix": "/east",
}
VARIABLES = {
    "DATASTORE_TYPE": "etcdv3",
    "ETCD_ENDPOINTS": "https://10.0.0.1:2379,https://10.0.0.2:2379",
    "ETCD_USERNAME": "root",
    "ETCD_PASSWORD": "secret",
    "ETCD_CA_CERT_FILE": "/ca",
    "ETCD_CERT_FILE": "/cert",
    "ETCD_KEY_FILE": "/key",
    "ETCD_PREFIX": "/east",
}
MEANT = EtcdSettings(
    endpoints=(Endpoint("10.0.0.1", 2379, tls=True), Endpoint("10.0.0.2", 2379, tls=True)),
    username="root",
    password="secret",
    ca_cert_file="/ca",
    cert_file="/cert",
    key_file="/key",
    prefix="/east",
)


def test_the_environment_says_everything() -> None:
    """By the names that Calico's clients know."""
    assert connection(from_environment(VARIABLES), "/default") == MEANT


def test_the_file_says_everything() -> None:
    """By the fields that Calico's clients know, and our prefix."""
    given = from_config(config(*(f"{field}: {value}" for field, value in WHOLE.items())), "c.cfg")
    assert connection(given, "/default") == MEANT
    assert given["password"].source == "c.cfg:8: spec.etcdPassword"


def test_certificates_may_stand_in_the_file_itself() -> None:
    """As text of PEM; an environment does not carry them."""
    given = from_config(
        config(
            "etcdEndpoints: https://a:1",
            "etcdCACert: |\n    authority\n    more",
            "etcdCert: c",
            "etcdKey: k",
        ),
        "c.cfg",
    )
    found = connection(given, "/default")
    assert isinstance(found, EtcdSettings)
    assert (found.ca_cert, found.cert, found.key) == ("authority\nmore\n", "c", "k")
    assert from_environment({"ETCD_KEY": "k", "ETCD_CERT": "c", "ETCD_CA_CERT": "a"}) == {}


def test_calicos_own_prefix_of_variables_goes_first() -> None:
    """CALICO_ETCD_ENDPOINTS before ETCD_ENDPOINTS; an empty variable counts as unset."""
    both = {"CALICO_ETCD_ENDPOINTS": "http://a:1", "ETCD_ENDPOINTS": "http://b:1"}
    assert from_environment(both)["endpoints"] == Setting("http://a:1", "CALICO_ETCD_ENDPOINTS")
    both["CALICO_ETCD_ENDPOINTS"] = ""
    assert from_environment(both)["endpoints"] == Setting("http://b:1", "ETCD_ENDPOINTS")


def felix(cfg: str = "", **environment: str) -> dict[str, tuple[str, str]]:
    return {name: tuple(setting) for name, setting in from_felix(environment, cfg, "felix.cfg").items()}


def test_an_agent_is_told_in_the_words_of_calicos_agent() -> None:
    """By variables in any case, and below them felix.cfg; endpoints imply the type."""
    assert felix(FELIX_ETCDENDPOINTS="http://f:1", felix_EtcdCaFile="/ca", FELIX_LOGPREFIX="x") == {
        "type": ("etcdv3", "FELIX_ETCDENDPOINTS"),
        "endpoints": ("http://f:1", "FELIX_ETCDENDPOINTS"),
        "ca_cert_file": ("/ca", "felix_EtcdCaFile"),
    }
    cfg = "[global]\nDatastoreType = kubernetes\nEtcdEndpoints = http://c:1\nEtcdKeyFile = /k\n"
    assert felix(cfg, FELIX_ETCDKEYFILE="/e") == {
        "type": ("etcdv3", "felix.cfg: etcdendpoints"),
        "endpoints": ("http://c:1", "felix.cfg: etcdendpoints"),
        "key_file": ("/e", "FELIX_ETCDKEYFILE"),
    }
    assert felix("LogPrefix = x\n") == {}
    with pytest.raises(BadSetting, match=r"felix.cfg cannot be read"):
        felix("[global\n")


def test_address_and_scheme_of_an_old_agent_make_an_endpoint() -> None:
    """Where no endpoints are named."""
    assert felix(FELIX_ETCDADDR="h:1")["endpoints"] == ("http://h:1", "FELIX_ETCDADDR")
    assert felix("EtcdScheme = https\nEtcdAddr = h:4001")["endpoints"][0] == "https://h:4001"
    assert felix("EtcdAddr = h:1", FELIX_ETCDENDPOINTS="http://f:1")["endpoints"][0] == "http://f:1"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"endpoints": "http://a:1"}, EtcdSettings(endpoints=(Endpoint("a", 1),))),
        ({"discovery_srv": "dc.example"}, EtcdSettings(discovery_srv="dc.example")),
        ({"sqlite_path": "/a.db"}, "/a.db"),
        ({"type": "sqlite"}, "/default"),
        ({"type": "sqlite", "endpoints": "http://a:1"}, "/default"),
        (
            {"type": "etcdv3", "endpoints": "http://a:1", "sqlite_path": "/a.db"},
            EtcdSettings(endpoints=(Endpoint("a", 1),)),
        ),
    ],
    ids=str,
)
def test_the_type_is_implied_where_nobody_says_it(given: dict[str, str], meant: str | EtcdSettings) -> None:
    """And decides where there is more than one place."""
    assert connection({name: Setting(value, name) for name, value in given.items()}, "/default") == meant


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"endpoints": "http://a:1", "sqlite_path": "/a"}, "ENDPOINTS and SQLITE_PATH name two stores"),
        ({"username": "root"}, "here: no store is named"),
        ({"type": "etcd"}, "TYPE: there is no store of type 'etcd'; did you mean etcdv3?"),
        ({"type": "kubernetes"}, "TYPE=kubernetes: the Kubernetes API as a store is not supported yet"),
        ({"type": "etcdv3"}, "TYPE: no endpoint of etcd is named"),
        ({"endpoints": "10.0.0.1:2379"}, "ENDPOINTS: '10.0.0.1:2379' is no endpoint of etcd"),
        ({"endpoints": "http://a", "prefix": "east"}, "PREFIX: the prefix 'east' does not begin with '/'"),
        ({"endpoints": "http://a", "username": "root"}, "ENDPOINTS, USERNAME: etcd needs both"),
        ({"endpoints": "http://a", "discovery_srv": "b"}, "ENDPOINTS, DISCOVERY_SRV: etcd is named twice"),
        ({"endpoints": "https://a", "cert_file": "c"}, "ENDPOINTS, CERT_FILE: a client certificate"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_with_its_source(given: dict[str, str], sentence: str) -> None:
    """Whoever set a variable wrongly finds it in the sentence."""
    with pytest.raises(BadSetting) as refusal:
        connection({name: Setting(value, name.upper()) for name, value in given.items()}, "/default", "here")
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            config("etcdEndpoint: http://a"),
            "c.cfg:5:3: spec.etcdEndpoint: there is no field 'etcdEndpoint'; did you",
        ),
        (config("etcdCaCertFile: /ca"), "did you mean etcdCACertFile?"),
        (
            config("etcdPassword: 12345"),
            "c.cfg:5:17: spec.etcdPassword: text is expected here; put the value in",
        ),
        (config("etcdEndpoints: [http://a]"), "c.cfg:5:3: spec.etcdEndpoints: text is expected here"),
        (
            config(head="apiVersion: v1\nkind: calicoApiConfig\n"),
            "c.cfg:2:7: kind: kind 'calicoApiConfig' stands",
        ),
        (
            config(head="apiVersion: v1\nkind: CalicoAPIConfig\n"),
            "c.cfg:1:13: apiVersion: apiVersion 'v1' is not",
        ),
        (config(head="kind: CalicoAPIConfig\nspec: 7\n"), "c.cfg:2:7: spec: spec: a mapping is expected"),
        (
            config(head="kind: CalicoAPIConfig\netcdEndpoints: a\n"),
            "c.cfg:2:1: etcdEndpoints: there is no field",
        ),
        (config(head="spec: {}\n"), "c.cfg:1:1: kind: kind None stands where CalicoAPIConfig is expected"),
        (config(head=""), "c.cfg: one document of kind CalicoAPIConfig is expected"),
        (config(head="- a\n"), "c.cfg: one document of kind CalicoAPIConfig is expected"),
        (config(head="kind: A\n---\nkind: B\n"), "c.cfg: one document of kind CalicoAPIConfig is expected"),
        (b"\xff\xfek", "c.cfg:1:1: the file is UTF-16, not UTF-8"),
    ],
    ids=repr,
)
def test_the_file_is_read_strictly(content: bytes, sentence: str) -> None:
    """Each problem with its line and column; near misses are suggested."""
    with pytest.raises(BadSetting) as refusal:
        from_config(content, "c.cfg")
    assert sentence in str(refusal.value)


def test_all_problems_of_the_file_are_said_at_once() -> None:
    """Nobody has to try again for the second one."""
    with pytest.raises(BadSetting) as refusal:
        from_config(config("etcdEndpoint: a", "etcdPassword: 1"), "c.cfg")
    assert len(str(refusal.value).splitlines()) == 2


def test_fields_of_kubernetes_are_accepted_and_unused() -> None:
    """A file that also serves Calico's own clients is no error."""
    given = from_config(
        config(
            "etcdEndpoints: http://a:1", "kubeconfig: /k", "k8sInsecureSkipTLSVerify: true", "k8sAPIToken: t"
        ),
        "c.cfg",
    )
    assert given.keys() == {"endpoints"}


@pytest.mark.parametrize(
    "line", ["etcdPassword: *hush", "etcdPassword: !hush x", "etcdPassword: @hush", "etcdPassword: {a: hush"]
)
def test_a_secret_is_never_quoted(line: str) -> None:
    """Not even where the line that holds it is no YAML."""
    with pytest.raises(BadSetting) as refusal:
        from_config(config("etcdEndpoints: http://a:1", line), "c.cfg")
    assert "hush" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_passwords_show_nowhere() -> None:
    """Neither as the place that people are told, nor in the representation for developers."""
    store = Datastore(MEANT)
    assert str(store) == "etcd https://10.0.0.1:2379,https://10.0.0.2:2379 under /east"
    assert "secret" not in repr(store)
    assert str(Datastore(EtcdSettings(discovery_srv="dc.example"))) == "etcd the members of dc.example"
    assert str(Datastore(Path("/a.db"))) == "/a.db"
    with pytest.raises(BadSetting) as refusal:
        etcd(endpoints="http://root:hush@a:1")
    assert "hush" not in str(refusal.value)


def test_who_says_a_thing_in_one_way_takes_back_the_other() -> None:
    """Endpoints from the environment are not joined with a discovery domain of the file."""
    file = {"discovery_srv": Setting("d", "f"), "key": Setting("k", "f"), "cert": Setting("c", "f")}
    merged = over({"endpoints": Setting("http://a", "e"), "key_file": Setting("/k", "e")}, file)
    assert {name: setting.source for name, setting in merged.items()} == {
        "endpoints": "e",
        "key_file": "e",
        "cert": "f",
    }


def test_what_only_lets_in_names_no_store() -> None:
    """A password in the environment goes with the endpoints of the file; so does the type alone, which it needs."""
    assert not names_a_store(from_environment({"ETCD_PASSWORD": "p", "DATASTORE_TYPE": "etcdv3"}))
    assert names_a_store(from_environment({"DATASTORE_TYPE": "sqlite"}))
    assert names_a_store(from_environment({"ETCD_DISCOVERY_SRV": "d"}))
