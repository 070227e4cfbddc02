"""Which store is meant, and how to reach it: what the environment and ``calicoctl.cfg`` say, put together.

In:   the environment; the bytes of a ``CalicoAPIConfig``.
Out:  ``Given``: settings, each with where it was said; ``connection``: the path of a SQLite file, or ``EtcdSettings``.
Next: ``datastore.location`` opens it; ``cli.stores`` says which source wins.

Names are those of Calico's own clients, so what works for them works here. What is wrong raises ``BadSetting``,
which names its source. Values of secret settings are never shown, nor is a line that may hold one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from calico.datastore.api import StoreError
from calico.datastore.etcd_settings import EtcdSettings, parse_endpoints


class BadSetting(StoreError):
    """What somebody said about the store makes no sense; the sentence begins with where it was said."""


class Setting(NamedTuple):
    """What was said, and where: a variable, or a place in a file."""

    value: str
    source: str


Given: TypeAlias = Mapping[str, Setting]
"""The settings that were given, by their name here; an empty value counts as not given."""


class _Name(NamedTuple):
    field: str
    """The name in a ``CalicoAPIConfig``."""
    variables: tuple[str, ...]
    """The names in the environment, the first that is set wins."""


def _both(variable: str) -> tuple[str, ...]:
    """Calico's clients let a variable of their own name go before the general one."""
    return f"CALICO_{variable}", variable


_NAMES: Final = {
    "type": _Name("datastoreType", _both("DATASTORE_TYPE")),
    "sqlite_path": _Name("sqlitePath", ("CALICO_SQLITE_PATH",)),
    "endpoints": _Name("etcdEndpoints", _both("ETCD_ENDPOINTS")),
    "discovery_srv": _Name("etcdDiscoverySrv", _both("ETCD_DISCOVERY_SRV")),
    "username": _Name("etcdUsername", _both("ETCD_USERNAME")),
    "password": _Name("etcdPassword", _both("ETCD_PASSWORD")),
    "ca_cert_file": _Name("etcdCACertFile", _both("ETCD_CA_CERT_FILE")),
    "cert_file": _Name("etcdCertFile", _both("ETCD_CERT_FILE")),
    "key_file": _Name("etcdKeyFile", _both("ETCD_KEY_FILE")),
    # As text in the file only: an environment is seen by too many.
    "ca_cert": _Name("etcdCACert", ()),
    "cert": _Name("etcdCert", ()),
    "key": _Name("etcdKey", ()),
    "prefix": _Name("etcdPrefix", _both("ETCD_PREFIX")),
}
_FELIX: Final = {
    "type": "datastoretype",
    "endpoints": "etcdendpoints",
    "ca_cert_file": "etcdcafile",
    "cert_file": "etcdcertfile",
    "key_file": "etcdkeyfile",
}
"""The parameters of Calico's agent for the same, in lower case; for an agent they go before the others."""

_UNUSED: Final = frozenset(
    {
        "kubeconfig", "kubeconfigInline", "k8sAPIEndpoint", "k8sKeyFile", "k8sCertFile", "k8sCAFile", "k8sAPIToken",
        "k8sInsecureSkipTLSVerify", "k8sDisableNodePoll", "k8sClientQPS", "k8sCurrentContext", "usePodCIDR",
        "calicoAPIGroup", "alphaFeatures",
    }
)  # fmt: skip
"""Fields of Calico's that are about Kubernetes' own store: accepted, and not used."""

_SECRET: Final = ("etcdPassword", "etcdKey:", "k8sAPIToken", "kubeconfigInline")
"""What a line has that may hold a secret."""

_ONE_OF: Final = (
    ("endpoints", "discovery_srv"),
    ("ca_cert_file", "ca_cert"),
    ("cert_file", "cert"),
    ("key_file", "key"),
)
"""Two ways to say one thing: who says it in one way takes back what a lesser source said in the other."""

_TYPES: Final = ("sqlite", "etcdv3", "kubernetes")
KIND: Final = "CalicoAPIConfig"
_API_VERSION: Final = "projectcalico.org/v3"

# --- the environment ---------------------------------------------------------------------------------


def from_environment(environment: Mapping[str, str]) -> dict[str, Setting]:
    """What the environment says."""
    given = {}
    for name, (_, variables) in _NAMES.items():
        for variable in variables:
            if value := environment.get(variable):
                given[name] = Setting(value, variable)
                break
    return given


# --- Calico's agent ----------------------------------------------------------------------------------


def from_felix(environment: Mapping[str, str], cfg: str, label: str) -> dict[str, Setting]:
    """What an agent of Calico is told in its own words: ``FELIX_<NAME>``, and below that the text of ``felix.cfg``.

    ``label`` is the path of the file; ``BadSetting`` where it cannot be read.
    """
    from calico.model.errors import ModelError
    from calico.model.settings_sources import felix_lines, felix_variables

    try:
        lines = felix_lines(label, cfg)
    except ModelError as error:
        raise BadSetting(f"{label} cannot be read, and may name the store: {error}; correct it") from error
    said = {name.lower(): Setting(value, f"{label}: {name}") for name, value in lines if value}
    said |= {
        name.lower(): Setting(value, variable)
        for variable, name, value in felix_variables(environment)
        if value
    }
    given = {ours: said[theirs] for ours, theirs in _FELIX.items() if theirs in said}
    address = said.get("etcdaddr")
    if "endpoints" not in given and address:
        scheme = said["etcdscheme"].value if "etcdscheme" in said else "http"
        given["endpoints"] = Setting(f"{scheme}://{address.value}", address.source)
    if "endpoints" in given:  # whoever names endpoints means etcd, whatever type is named elsewhere
        given["type"] = Setting("etcdv3", given["endpoints"].source)
    return given


# --- the file ----------------------------------------------------------------------------------------


def from_config(content: bytes, source: str) -> dict[str, Setting]:
    """What a ``CalicoAPIConfig`` says, in YAML or JSON, read strictly; ``BadSetting`` names every problem's place."""
    from calico.model.errors import Problem
    from calico.model.schema import nearest
    from calico.model.yaml_text import BadText, Places, documents, text_of

    places = Places("")
    try:
        text = text_of(content)
        places = Places(text)
        trees = [tree for tree in documents(text) if tree is not None]
    except BadText as error:
        excerpt = places.at(error.line, error.column).excerpt
        hidden = any(word in excerpt for word in _SECRET)
        reason = "the text is no YAML" if hidden else error.reason
        remedy = "put the value in quotes" if hidden else error.remedy
        wrong = Problem(message=reason, remedy=remedy, source=source, line=error.line, column=error.column)
        raise BadSetting(str(wrong)) from None  # the cause may quote a secret
    given: dict[str, Setting] = {}
    problems: list[str] = []

    def wrong_at(path: tuple[str, ...], message: str, remedy: str, *, at_key: bool = False) -> None:
        place = places.find(0, path, at_key=at_key)
        problem = Problem(
            message=message, remedy=remedy, path=path, source=source, line=place.line, column=place.column
        )
        problems.append(str(problem))

    known = {name.field: ours for ours, name in _NAMES.items()}
    for path, value in _fields(trees, source):
        field = path[-1]
        if path[:-1] == ("spec",):
            if value is None or field in _UNUSED:
                continue
            if field not in known:
                wrong_at(
                    path, f"there is no field {field!r}", nearest(field, [*known, *_UNUSED]), at_key=True
                )
            elif not isinstance(value, str):
                wrong_at(path, "text is expected here", "put the value in quotes")
            elif value:
                line = places.find(0, path, at_key=True).line
                given[known[field]] = Setting(value, f"{source}:{line}: {'.'.join(path)}")
        elif path == ("apiVersion",):
            if value not in {None, _API_VERSION}:
                wrong_at(path, f"apiVersion {value!r} is not ours", f"write {_API_VERSION}")
        elif path == ("kind",):
            if value != KIND:
                wrong_at(path, f"kind {value!r} stands where {KIND} is expected", f"write kind: {KIND}")
        elif path == ("spec",):
            if value is not None:
                wrong_at(
                    path,
                    "spec: a mapping is expected",
                    "write fields and values, as in 'datastoreType: etcdv3'",
                )
        elif path != ("metadata",):
            wrong_at(path, f"there is no field {field!r}", "put settings under spec", at_key=True)
    if problems:
        raise BadSetting("\n".join(problems))
    return given


def _fields(trees: list[Any], source: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of the one document, those of ``spec`` one by one."""
    if len(trees) != 1 or not isinstance(trees[0], dict):
        raise BadSetting(f"{source}: one document of kind {KIND} is expected; write kind: {KIND}, and spec")
    yield ("kind",), trees[0].get("kind")
    for field, value in trees[0].items():
        if field == "spec" and isinstance(value, dict):
            for inner, each in value.items():
                yield ("spec", str(inner)), each
        elif field != "kind":
            yield (str(field),), value


# --- together ----------------------------------------------------------------------------------------


def names_a_store(given: Given) -> bool:
    """Whether the settings say where the store is, and not only how to be let in."""
    kind = given.get("type")
    return not given.keys().isdisjoint({"endpoints", "discovery_srv", "sqlite_path"}) or (
        kind is not None and kind.value != "etcdv3"
    )


def over(first: Given, second: Given) -> dict[str, Setting]:
    """Both, ``first`` winning setting by setting."""
    settled = dict(second)
    for pair in _ONE_OF:
        if any(name in first for name in pair):
            for name in pair:
                settled.pop(name, None)
    return settled | dict(first)


def connection(given: Given, default_path: str, origin: str = "") -> str | EtcdSettings:
    """The store that is meant: a SQLite file's path, ``default_path`` where none is given, or an etcd.

    Without a type the other settings tell it. ``BadSetting`` where they contradict each other, name no store, or
    one that is not supported; ``origin`` is where they come from, should there be none.
    """
    kind, source = given.get("type") or _implied(given, origin)
    if kind == "sqlite":
        return given["sqlite_path"].value if "sqlite_path" in given else default_path
    if kind == "etcdv3":
        return _etcd(given, source)
    if kind == "kubernetes":
        raise BadSetting(
            f"{_said(source, kind)}: the Kubernetes API as a store is not supported yet; use etcdv3 or sqlite"
        )
    from calico.model.schema import nearest

    raise BadSetting(f"{source}: there is no store of type {kind!r}; {nearest(kind, list(_TYPES))}")


def _implied(given: Given, origin: str) -> Setting:
    """The type that other settings tell."""
    etcd = given.get("endpoints") or given.get("discovery_srv")
    sqlite = given.get("sqlite_path")
    if etcd and sqlite:
        raise BadSetting(
            f"{etcd.source} and {sqlite.source} name two stores; say which with DATASTORE_TYPE (datastoreType)"
        )
    if etcd:
        return Setting("etcdv3", etcd.source)
    if sqlite:
        return Setting("sqlite", sqlite.source)
    raise BadSetting(
        f"{origin or 'the settings'}: no store is named; set DATASTORE_TYPE (datastoreType) and where it is"
    )


def _etcd(given: Given, source: str) -> EtcdSettings:
    values: dict[str, Any] = {
        name: setting.value for name, setting in given.items() if name not in {"type", "sqlite_path"}
    }
    prefix = values.pop("prefix", "").rstrip("/")
    if prefix and not prefix.startswith("/"):
        raise BadSetting(
            f"{given['prefix'].source}: the prefix {prefix!r} does not begin with '/'; write /{prefix}"
        )
    text = values.pop("endpoints", "")
    try:
        endpoints = parse_endpoints(text)
    except StoreError as error:
        raise BadSetting(f"{given['endpoints'].source}: {error}") from None
    try:
        return EtcdSettings(endpoints=endpoints, prefix=prefix, **values)
    except StoreError as error:
        sources = dict.fromkeys([source, *(given[name].source for name in values)])
        raise BadSetting(f"{', '.join(sources)}: {error}") from None


def _said(source: str, value: str) -> str:
    return f"{source}={value}" if source.isupper() else source
