"""An export: everything that a store holds, as text that people can read; and the exports of Calico's own tool.

In:   what a store holds; or such a text.
Out:  the text; or what it holds.
Next: ``cli.datastore`` prints and reads it, ``datastore.transfer`` stores it.

The text has three parts, with ``===`` between: resources in YAML, the ClusterInformation in JSON, IPAM's records in
JSON. That is what ``calicoctl datastore migrate export`` has always written. Calico's leaves out what does not
move with a cluster to Kubernetes' store: profiles, workload endpoints, uid, creationTimestamp, status of agents.
Ours leaves out nothing: resources are whole, and the last part has ``exact``: every key that is neither a
resource nor a record of IPAM, and a checksum of everything.

What comes from us is stored as it stands. What comes from Calico is checked as strictly as any manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace as with_fields

from calico.datastore.api import StoreError
from calico.datastore.backup_file import unwritten, written
from calico.datastore.lock import CLUSTER
from calico.datastore.transfer import Content, canonical
from calico.model.errors import ModelError
from calico.model.keys import BY_TYPE, IPAM, Key, key_of, parse_path

VERSION: Final = 1
_SEPARATOR: Final = re.compile(r"^===[ \t]*\r?\n", re.MULTILINE)
_EXACT: Final = "exact"

_ORDER: Final = (
    "IPPool", "BGPPeer", "Tier", "GlobalNetworkPolicy", "StagedGlobalNetworkPolicy", "GlobalNetworkSet", "HostEndpoint",
    "KubeControllersConfiguration", "NetworkPolicy", "StagedNetworkPolicy", "StagedKubernetesNetworkPolicy",
    "NetworkSet", "Node", "BGPConfiguration", "FelixConfiguration", "IPReservation", "BGPFilter",
)  # fmt: skip
"""The kinds in the order of Calico's exports; all others follow."""

_RECORDS: Final = {"BlockAffinity": "block_affinities", "IPAMBlock": "blocks", "IPAMHandle": "handles"}


class BadExport(StoreError):
    """The text is no export, or not all of one; nothing of it may be used."""


class Export(NamedTuple):
    """What a text holds."""

    content: dict[str, bytes]
    ours: bool
    """Whether it is one of ours, and so whole; Calico's have neither profiles nor workload endpoints."""


# --- writing -----------------------------------------------------------------------------------------


def dump(content: Content, *, time: str, store: str) -> Iterator[str]:
    """The text of all of ``content``, piece by piece; ``time`` and ``store`` say when and where it was read."""
    from calico.model.yaml_text import dump as to_yaml

    resources: dict[str, list[Any]] = {}
    records: dict[str, Any] = {name: [] for name in _RECORDS.values()}
    other: list[dict[str, str]] = []
    for path, value in sorted(content.items()):
        key = parse_path(path)
        tree = _plain(value)
        if path == CLUSTER.path and tree is not None:
            continue
        if key is not None and key.kind in _RECORDS and tree is not None:
            records[_RECORDS[key.kind]].append({"Key": path, "Value": tree, "TTL": 0})
        elif path == f"{IPAM}config" and tree is not None:
            records["config"] = {"Key": path, "Value": tree, "TTL": 0}
        elif key is not None and tree is not None and _path_of(tree) == path:
            resources.setdefault(key.kind, []).append(tree)
        else:
            other.append({"path": path, **written(value)})
    yield f"# Everything in {store} at {time}; to be read by: calicoctl datastore migrate import -f FILE\n"
    for kind in sorted(
        resources, key=lambda kind: (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), kind)
    ):
        yield f"# {kind}: {len(resources[kind])}\n---\n{to_yaml(resources[kind])}---\n"
    cluster = _plain(content[CLUSTER.path]) if CLUSTER.path in content else None
    yield f"===\n{json.dumps(cluster, indent=2)}\n===\n"
    records[_EXACT] = {
        "version": VERSION,
        "entries": len(content),
        "sha256": _checksum(content),
        "other": other,
    }
    yield f"{json.dumps(records, indent=2)}\n"


def _plain(value: bytes) -> dict[str, Any] | None:
    """The value as a mapping that reads back as the same from JSON and YAML; None where there is none."""
    try:
        tree = json.loads(value)
        json.dumps(tree, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and canonical(_json(tree)) == canonical(value) else None


def _path_of(tree: Mapping[str, Any]) -> str | None:
    """Where a resource with these type and names is stored; None where they do not tell."""
    version, word, metadata = tree.get("apiVersion"), tree.get("kind"), tree.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(version, str) or not isinstance(word, str):
        return None
    kind = BY_TYPE.get((version, word))
    name, namespace = metadata.get("name"), metadata.get("namespace", "")
    if kind is None or not isinstance(name, str) or not isinstance(namespace, str):
        return None
    return Key(kind.__name__, name, namespace if kind.NAMESPACED else "").path


def _checksum(content: Content) -> str:
    """Of what is said, however it is written."""
    total = hashlib.sha256()
    for path, value in sorted(content.items()):
        total.update(json.dumps(path).encode() + b"\0" + canonical(value) + b"\0")
    return total.hexdigest()


# --- reading -----------------------------------------------------------------------------------------


def parse(text: str, source: str, *, stamp: str, changed: bool = False) -> Export:
    """What the text ``source`` holds; ``BadExport`` unless it is whole.

    With ``changed`` one of ours may have been edited. Of Calico's, which have neither uid nor creationTimestamp,
    each resource gets a uid that is the same for every reading, and the cluster's own time, or else ``stamp``.
    InvalidResources says what is wrong with those of Calico's.
    """
    parts = _SEPARATOR.split(text)
    if len(parts) != 3:
        raise BadExport(
            f"{source} is no export, or not all of one: it has {len(parts)} parts where three, with === between, are"
            " expected; make it again with 'calicoctl datastore migrate export'"
        )
    cluster = _json_part(parts[1], source, "the ClusterInformation")
    records = _json_part(parts[2], source, "the last part")
    if not isinstance(records, dict) or not isinstance(cluster, dict | None):
        raise BadExport(f"{source}: mappings are expected after ===; make the export again")
    exact = records.pop(_EXACT, None)
    content = {CLUSTER.path: _json(cluster)} if cluster else {}
    if exact is None:
        content |= _foreign_resources(parts[0], source, cluster or {}, stamp)
        content |= _records(records, source)
        return Export(content, ours=False)
    try:
        if exact["version"] != VERSION:
            raise BadExport(f"{source} was made by another version of this program; use that one, or upgrade")
        content |= _our_resources(parts[0], source)
        content |= {record["Key"]: _json(record["Value"]) for record in _listed_records(records)}
        content |= {entry["path"]: unwritten(entry) for entry in exact["other"]}
        whole = changed or (len(content) == exact["entries"] and _checksum(content) == exact["sha256"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadExport(f"{source}: the last part is not as it was written; make the export again") from error
    if not whole:
        raise BadExport(
            f"{source} was changed since it was made, or damaged: its checksum is wrong;"
            " make it again, or say --allow-changed if that was you"
        )
    return Export(content, ours=True)


def _our_resources(text: str, source: str) -> dict[str, bytes]:
    from calico.model.yaml_text import BadText, documents

    content = {}
    try:
        for tree in documents(text):
            if tree is None:
                continue
            path = _path_of(tree) if isinstance(tree, dict) else None
            if path is None:
                raise BadExport(
                    f"{source}: a document is no resource, with apiVersion, kind and name; correct it"
                )
            if path in content:
                raise BadExport(f"{source}: {parse_path(path)} stands there twice; keep one")
            content[path] = _json(tree)
    except BadText as error:
        raise BadExport(f"{source}:{error.line}:{error.column}: {error}") from error
    return content


def _foreign_resources(text: str, source: str, cluster: Mapping[str, Any], stamp: str) -> dict[str, bytes]:
    from calico.model.codec import encode, read
    from calico.model.validation import defaulted

    guid = str((cluster.get("spec") or {}).get("clusterGUID"))
    made = (cluster.get("metadata") or {}).get("creationTimestamp") or stamp
    content = {}
    for resource, _ in read(text, source):
        path = key_of(resource).path
        metadata = resource.metadata
        stamped = with_fields(
            metadata,
            uid=metadata.uid or str(uuid.uuid5(uuid.NAMESPACE_URL, f"{guid}{path}")),
            creation_timestamp=metadata.creation_timestamp or made,
        )
        content[path] = encode(defaulted(with_fields(resource, metadata=stamped)))
    return content


def _records(records: Mapping[str, Any], source: str) -> dict[str, bytes]:
    """Records of IPAM that others wrote, checked."""
    from calico.model.codec import RECORDS, decode

    content = {}
    for record in _listed_records(records):
        path, value = record.get("Key"), _json(record.get("Value"))
        key = parse_path(path) if isinstance(path, str) else None
        if key is None or not str(path).startswith(IPAM):
            raise BadExport(f"{source}: {path!r} is no key of IPAM; make the export again")
        if key.kind in RECORDS:
            try:
                decode(key, value, 0)
            except ModelError as error:
                raise BadExport(f"{source}: {error}") from error
        content[key.path] = value
    return content


def _listed_records(records: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in _RECORDS.values():
        yield from records.get(name) or ()
    if records.get("config"):
        yield records["config"]


def _json_part(text: str, source: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadExport(
            f"{source}: {what} is no JSON, or not all of it ({error}); make the export again"
        ) from error


def _json(tree: Any) -> bytes:
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
