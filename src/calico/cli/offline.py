"""A world from files, and the places in them.

In:   manifests of any kind: resources, and Kubernetes' objects as a repository or ``kubectl get -o yaml`` has them.
Out:  ``Offline``: facts, what was passed over, and where each resource and each rule stands; or ``BadFiles``.
Next: ``cli.explain`` and ``cli.policy_test`` ask ``analysis`` about them.

What a directory of manifests holds besides, Deployments and ConfigMaps, is no mistake: it is passed over and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from calico.cli.manifests import Manifest, texts
from calico.model import codec
from calico.model.errors import Finding, InvalidResources, Path, Problem
from calico.model.keys import BY_TYPE, Key, key_of
from calico.model.kubernetes_kinds import KubernetesObject
from calico.model.resource import Resource
from calico.model.schema import Misfit
from calico.model.validation import defaulted

_OURS: Final = "projectcalico.org"


class BadFiles(Exception):
    """Files that cannot be used, with everything that is wrong with all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Offline:
    """What files hold. ``passed_over`` counts objects of kinds that do not matter here."""

    facts: Mapping[Key, Resource]
    manifests: Mapping[Key, Manifest]
    passed_over: Mapping[str, int]

    def place(self, key: Key, path: Path) -> str:
        """``file:line`` of a part of a resource, or of the object that it stands for; "" where it is not known."""
        manifest = self.manifests.get(key)
        if manifest is None:
            source = self._origins.get(key)
            manifest, path = (self.manifests[source], ("spec",)) if source is not None else (None, path)
        if manifest is None:
            return ""
        found = manifest.problem(Finding(path, "", ""))
        return f"{found.source}:{found.line}" if found.line else found.source

    @cached_property
    def _origins(self) -> dict[Key, Key]:
        """Which object of Kubernetes stands for which resource."""
        return {
            key_of(resource): key
            for key, value in self.facts.items()
            if isinstance(value, KubernetesObject)
            for resource in value.conversion().resources
        }


def read(files: Sequence[str], *, recursive: bool = False) -> Offline:
    """The world that ``files`` describe; raises BadFiles.

    One resource that stands twice is wrong, unless it is the same both times.
    """
    wrong: list[Problem] = []
    found: dict[Key, Manifest] = {}
    passed_over: Counter[str] = Counter()

    def judge(tree: Any) -> tuple[Resource | None, list[Misfit]]:
        if (kind := _foreign(tree)) is not None:
            passed_over[kind] += 1
            return None, []
        from calico.model.judgement import judged

        return judged(tree)

    for source, text in texts(files, wrong, recursive=recursive):
        try:
            located = codec.read_as(text, source, judge)
        except InvalidResources as error:
            wrong += error.problems
            continue
        for each in located:
            manifest = Manifest(defaulted(each.resource), each)
            other = found.setdefault(key_of(manifest.resource), manifest)
            if other.resource != manifest.resource:
                where = other.problem(Finding((), "", "")).place
                message = f"it stands at {where} too, with other content"
                wrong.append(manifest.problem(Finding((), message, "keep one of them")))
    if wrong:
        raise BadFiles(wrong)
    return Offline({key: each.resource for key, each in found.items()}, found, passed_over)


def _foreign(tree: Any) -> str | None:
    """The kind of an object that is none of ours, and surely is not meant to be; else None."""
    if not isinstance(tree, dict):
        return None
    version, kind = tree.get("apiVersion"), tree.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str) or _OURS in version:
        return None
    if (version, kind) == ("v1", "Node"):  # what Kubernetes calls so is no Node of ours
        return kind
    return None if kind in {word for _, word in BY_TYPE} else kind


def passed_over_words(counts: Mapping[str, int]) -> str:
    """``passed over 3 objects that policy does not depend on: 2 Deployment, 1 ConfigMap``."""
    total = sum(counts.values())
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    return f"passed over {total} object{'s' * (total != 1)} that policy does not depend on: {listed}"
