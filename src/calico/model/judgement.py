"""Whether plain values are a resource; if not, everything that is wrong with them.

In:   a tree, as YAML or JSON gave it.
Out:  the resource, or a ``Misfit`` for each thing that is wrong, with its path in the tree as it is.
Next: ``model.codec`` makes problems of them, with the place in the text.

A tree with misfits is no resource yet, and the rules of its kind are for resources. So the misfits are mended
as their own remedies say, the rest is judged, and both are reported. Where a remedy leaves open what is meant the
rest is judged twice, without the field and with something in it, and only what is wrong both times counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from msgspec import inspect

from calico.model.errors import Finding, Path
from calico.model.hints import OLD_KINDS, listed, near, nearest
from calico.model.keys import BY_TYPE, KINDS
from calico.model.resource import API_VERSION, Resource, kind_word
from calico.model.schema import Mend, Misfit, misfits, schema, shown, without_nulls

ROUNDS: Final = 4
"""How often a tree is mended: below a misspelt field there may be another, and so on."""

TEXTS: Final = 50
"""How many texts of a tree are tried in the place of one that is not known."""


def judged(tree: Any) -> tuple[Resource | None, list[Misfit]]:
    """The resource that the tree says, and what is wrong with it; None where there is none."""
    if not isinstance(tree, dict):
        finding = Finding(
            (), f"{shown(tree)} stands where a resource is expected", "write apiVersion, kind, metadata, spec"
        )
        return None, [Misfit(finding)]
    tree = without_nulls(tree)
    kind = _kind(tree)
    found = [*_about_kind(tree, kind)]
    if kind is None:
        return None, found
    if found:
        tree |= {"apiVersion": kind.API_VERSION, "kind": kind_word(kind)}
    try:
        resource = msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        return None, found + _everything(tree, kind, str(error))
    return resource, found + [Misfit(finding) for finding in _problems_of(resource)]


def _problems_of(resource: Resource) -> list[Finding]:
    from calico.model.validation import problems_of

    return problems_of(resource)


# --- which kind it is --------------------------------------------------------------------------------


def _kind(tree: Mapping[str, Any]) -> type[Resource] | None:
    """The kind that the tree says it is of, or surely means."""
    version, word = tree.get("apiVersion"), tree.get("kind")
    if not isinstance(word, str) or (version == "v1" and word in OLD_KINDS):
        return None
    if isinstance(version, str) and (version, word) in BY_TYPE:
        return BY_TYPE[version, word]
    kinds = _words(version if isinstance(version, str) else "")
    meant = word if word in kinds else near(word, kinds)
    return kinds[meant] if meant else None


def _words(version: str) -> dict[str, type[Resource]]:
    """Every word for a kind; where kinds share one, it is that of ``version``, else of our own group."""
    near_kubernetes = "k8s.io" in version or version.startswith("extensions/")
    ours = sorted(
        KINDS.values(),
        key=lambda kind: (
            version != kind.API_VERSION,
            near_kubernetes and "k8s.io" not in kind.API_VERSION,
            kind.API_VERSION != API_VERSION,
        ),
    )
    words: dict[str, type[Resource]] = {}
    for kind in ours:
        words.setdefault(kind_word(kind), kind)
    for kind in ours:
        for word in (kind.PLURAL, *kind.SHORT):
            words.setdefault(word, kind)
    return words


def _about_kind(tree: Mapping[str, Any], kind: type[Resource] | None) -> Iterator[Misfit]:
    """What is wrong with ``apiVersion`` and ``kind``."""
    version, word = tree.get("apiVersion"), tree.get("kind")
    if version == "v1" and word in OLD_KINDS:
        yield Misfit(
            Finding(
                ("apiVersion",),
                f"apiVersion v1 with kind {word!r} is the format of old",
                "convert it: calicoctl convert -f FILE",
            )
        )
        return
    if word is None:
        yield Misfit(Finding(("kind",), "the kind is missing", f"add it; {listed(_kind_words())}"))
    elif kind is None:
        foreign = f" of {version}" if isinstance(version, str) and version not in _versions() else ""
        yield Misfit(
            Finding(("kind",), f"there is no kind {shown(word)}{foreign}", nearest(str(word), _kind_words()))
        )
        if foreign:
            return
    elif word != kind_word(kind):
        yield Misfit(
            Finding(("kind",), f"there is no kind {shown(word)}", f"did you mean {kind_word(kind)}?")
        )
    expected = API_VERSION if kind is None else kind.API_VERSION
    if version != expected and not (kind is None and version in _versions()):
        yield Misfit(Finding(("apiVersion",), _about_version(version), f"write {expected}"))


def _kind_words() -> list[str]:
    """What may stand at ``kind``, each word once, as kinds of two groups may share one."""
    return sorted({kind_word(each) for each in KINDS.values()})


def _versions() -> set[str]:
    return {version for version, _ in BY_TYPE}


def _about_version(version: object) -> str:
    if version is None:
        return "the apiVersion is missing"
    if isinstance(version, str) and version.startswith("crd.projectcalico.org/"):
        return f"apiVersion {shown(version)} is only how Kubernetes stores it"
    if version in _versions():
        return f"apiVersion {shown(version)} has no such kind"
    return f"apiVersion {shown(version)} is not ours"


# --- everything at once ------------------------------------------------------------------------------


def _everything(tree: dict[str, Any], kind: type[Resource], first: str) -> list[Misfit]:
    """All misfits of a tree that does not fit, and what the rules of the kind say of the rest."""
    without, guessed = _Mended(tree), _Mended(tree)
    found: list[Misfit] = []
    for _ in range(ROUNDS):
        now = [*misfits(without.tree, schema(kind))]
        if not now:
            break
        for misfit in now:
            finding = misfit.finding
            if finding.path not in without.touched:  # else it is missing because we took it away
                found.append(misfit._replace(finding=finding._replace(path=without.original(finding.path))))
            without.mend(misfit, guess=False)
            guessed.mend(misfit, guess=True)
    if not found:
        found = [Misfit(Finding((), first, ""))]
    rules, sure = without.findings(kind), set(guessed.findings(kind))
    remedies = {without.original(finding.path): finding.remedy for finding in rules}
    return [_further(misfit, remedies) for misfit in found] + [
        Misfit(finding._replace(path=without.original(finding.path)))
        for finding in rules
        if finding in sure and not without.concerns(finding.path)
    ]


def _further(misfit: Misfit, remedies: Mapping[Path, str]) -> Misfit:
    """The misfit; with the remedy of the rules where a number in quotes would be text, and still no value."""
    finding = misfit.finding
    if misfit.mend is None or not isinstance(misfit.mend.value, str) or finding.path not in remedies:
        return misfit
    return misfit._replace(finding=finding._replace(remedy=remedies[finding.path]))


class _Mended:
    """A tree that is mended, misfit by misfit, and how its paths were before."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = without_nulls(tree)  # a copy, down to the scalars
        self.touched: set[Path] = set()
        self._renamed: dict[Path, Path] = {}
        self._texts = ("x", *_texts(tree))[:TEXTS]

    def original(self, path: Path) -> Path:
        """The path as it is in the tree that people wrote."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._renamed:
                return (*self._renamed[path[:length]], *path[length:])
        return path

    def concerns(self, path: Path) -> bool:
        """Whether something stands at ``path`` that people did not write."""
        return any(path[: len(each)] == each for each in self.touched)

    def findings(self, kind: type[Resource]) -> list[Finding]:
        """What the rules of the kind say of the tree; nothing if it is still none of that kind."""
        try:
            return _problems_of(msgspec.convert(self.tree, kind))
        except (msgspec.ValidationError, RecursionError):
            return []

    def mend(self, misfit: Misfit, *, guess: bool) -> None:
        """Take the misfit out; what is not sure is left out, or guessed."""
        path, mend = misfit.finding.path, misfit.mend or Mend()
        parent = _at(self.tree, path[:-1])
        if isinstance(parent, list) and isinstance(path[-1], int):
            self.touched.add(path)
            self._mend_entry(parent, path[-1], mend, guess=guess)
        elif isinstance(parent, dict):
            key = next((key for key in parent if str(key) == path[-1]), path[-1])
            value = parent.pop(key, None)
            if mend.moves:
                self._move(path, value, mend, guess=guess)
            elif mend.value is not None or mend.of is not None:
                if mend.value == [value]:
                    self._renamed[*path, 0] = self.original(path)
                else:
                    self.touched.add(path)
                if mend.value is not None:
                    parent[key] = mend.value
                elif mend.of is not None and (mend.sure or guess):
                    parent[key] = _some(mend.of, self._texts if guess else ())

    def _mend_entry(self, parent: list[Any], index: int, mend: Mend, *, guess: bool) -> None:
        """An entry of a list is replaced, for the others keep their places."""
        if mend.of is None:
            parent[index] = mend.value
            return
        parent[index] = _some(mend.of, self._texts if guess else ())
        if guess and isinstance(parent[index], str):
            parent += self._texts

    def _move(self, path: Path, value: Any, mend: Mend, *, guess: bool) -> None:
        if not (mend.sure or guess):
            return
        for target in mend.moves:
            parent = _at(self.tree, target[:-1], make=True)
            if isinstance(parent, dict) and target[-1] not in parent:
                parent[target[-1]] = value
                if mend.sure:
                    self._renamed[target] = self.original(path)


def _at(tree: Any, path: Path, *, make: bool = False) -> Any:
    """What stands at ``path``; None where nothing does, and mappings in between are made if wanted."""
    for step in path:
        if isinstance(tree, dict):
            if make and isinstance(step, str):
                tree.setdefault(step, {})
            tree = tree.get(step)
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        else:
            return None
    return tree


def _texts(tree: Any) -> Iterator[str]:
    """All texts of the tree: one of them may be the one that another refers to."""
    match tree:
        case dict():
            for value in tree.values():
                yield from _texts(value)
        case list():
            for value in tree:
                yield from _texts(value)
        case str():
            yield tree


def _some(of: inspect.Type, texts: tuple[str, ...]) -> Any:
    """A value of the type: the least there is, or one that says something, in these ``texts`` where it holds any."""
    match of:
        case inspect.Metadata(type=inner):
            return _some(inner, texts)
        case inspect.StrType():
            return texts[0] if texts else ""
        case inspect.BoolType():
            return bool(texts)
        case inspect.IntType() | inspect.FloatType():
            return int(bool(texts))
        case inspect.LiteralType(values=values):
            return values[-1] if texts else values[0]
        case inspect.ListType(item_type=item):
            return [_some(item, (text,)) for text in texts]
        case inspect.DictType(value_type=value_type):
            return {text: _some(value_type, (text,)) for text in texts}
        case inspect.UnionType(types=types):
            return _some(next(each for each in types if not isinstance(each, inspect.NoneType)), texts)
        case inspect.StructType(fields=fields):
            return {
                field.encode_name: _some(field.type, texts)
                for field in fields
                if field.required or (texts and isinstance(field.type, inspect.StrType))
            }
    return {}
