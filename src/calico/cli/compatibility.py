"""Whether this program may work on a cluster that another version, or Calico itself, runs.

In:   ``ClusterInformation.calicoVersion`` as it is stored.
Out:  nothing, or an error of the command that says why not, and how to do it all the same.
Next: ``cli.session`` asks before anything else; ``calicoctl version`` says what there is.

Calico's own program refuses every version but its own. We are another implementation: what counts is whether
we understand what is stored. That is so for all of Calico 3, whose resources only gain fields with time; fields that
we do not know are passed over and kept. Another major version may mean something else by the same words.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from calico.datastore.api import Denied

if TYPE_CHECKING:
    from calico.datastore.api import Store

MAJOR: Final = 3
"""The version of Calico whose resources these are."""
NEWEST: Final = 33
"""The newest minor version whose fields are all known here."""

ALLOWED: Final = "calico.cli.compatibility.allowed"

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\b")


def mismatch(version: str) -> str:
    """Why a cluster of this version had better be left alone; empty if there is no reason, or no number in it."""
    found = _VERSION.match(version)
    if found is None or int(found[1]) in {0, MAJOR}:  # our own versions begin with 0
        return ""
    return (
        f"this cluster is run by Calico {version}, and this program knows the resources of Calico {MAJOR};"
        " use a program of that version, or --allow-version-mismatch to go on all the same"
    )


def remark(version: str) -> str:
    """What a person should know of a cluster of this version; empty if there is nothing to say."""
    found = _VERSION.match(version)
    if found is None or int(found[1]) != MAJOR or int(found[2]) <= NEWEST:
        return mismatch(version)
    return (
        f"Calico {version} is newer than {MAJOR}.{NEWEST}, the newest that this program knows whole:"
        " fields that came later are kept, but not shown, and refused in files"
    )


async def refuse_mismatch(store: Store) -> None:
    """Raise an error of the command if the cluster had better be left alone, and nobody said otherwise."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.meta.get(ALLOWED):
        return
    try:
        version, _ = await cluster(store)
    except Denied:
        return  # who may not read this may do their work all the same
    sentence = mismatch(version)
    if sentence:
        from calico.cli.problems import Failure

        raise Failure(sentence)


async def cluster(store: Store) -> tuple[str, str]:
    """Version and type of the cluster, as whoever runs it stored them; empty where nobody did."""
    import msgspec

    from calico.model.cluster import DEFAULT
    from calico.model.keys import Key

    entry = await store.get(Key("ClusterInformation", DEFAULT).path)
    if entry is None:
        return "", ""
    try:
        tree = msgspec.json.decode(entry.value)
    except (msgspec.MsgspecError, RecursionError):
        return "", ""
    spec = tree.get("spec") if isinstance(tree, dict) else None
    if not isinstance(spec, dict):
        return "", ""
    version, kind = spec.get("calicoVersion"), spec.get("clusterType")
    return version if isinstance(version, str) else "", kind if isinstance(kind, str) else ""
