"""Fields of resources by the names that people use, whether or not they are set.

In:   a resource, or a part of one, and a name: as YAML writes it, or as Calico's own Go types call it.
Out:  the value, defaults included; ``NoField`` for a name that there is not, with what was probably meant.
Next: ``cli.gotemplate`` and ``cli.columns`` follow paths with it.

The two spellings differ in upper and lower case alone (``ipNetworks``, ``IPNetworks``), but for metadata, which
Go calls ``ObjectMeta`` and lets one leave out: ``.Name`` is ``.metadata.name``. Keys of mappings, such as
labels, are taken as they are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import NoneType
from typing import Any, Final, NamedTuple, get_args

import msgspec

from calico.model.codec import to_builtins
from calico.model.resource import API_VERSION, Resource, kind_word


class NoField(LookupError):
    """There is no such field; the sentence says what there is."""


class _NoValue:
    """What a mapping holds at a key that it does not have."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = _NoValue()


class Listing(NamedTuple):
    """All of a kind, or several resources of any kinds (None), as templates see them: ``.Items``, ``.Kind``."""

    kind: type[Resource] | None
    items: Sequence[Resource]

    @property
    def word(self) -> str:
        """The kind as YAML writes it."""
        return f"{kind_word(self.kind)}List" if self.kind else "List"


def member(value: Any, name: str) -> Any:
    """The field ``name`` of ``value``; nothing has only fields that are nothing."""
    match value:
        case None | _NoValue():
            return value
        case Listing(kind, items):
            fields = {
                "items": items,
                "kind": value.word,
                "apiversion": kind.API_VERSION if kind else API_VERSION,
                "metadata": {},
            }
            return _found(fields, name, value.word, ("Items", "Kind", "APIVersion"))
        case Resource():
            return _of_resource(value, name)
        case msgspec.Struct():
            return _of_struct(value, name)
        case dict():
            return value.get(name, NO_VALUE)
        case _:
            raise NoField(f"{described(value)} has no fields, so no {name!r}")


def _of_resource(resource: Resource, name: str) -> Any:
    match name.lower():
        case "kind":
            return kind_word(type(resource))
        case "apiversion":
            return resource.API_VERSION
        case "objectmeta":
            return resource.metadata
        case "typemeta":
            return {"Kind": kind_word(type(resource)), "APIVersion": resource.API_VERSION}
    known = _members(type(resource))
    if name.lower() not in known and name.lower() in _members(type(resource.metadata)):
        return _of_struct(resource.metadata, name)
    return _of_struct(resource, name)


def _of_struct(struct: msgspec.Struct, name: str) -> Any:
    known = _members(type(struct))
    attribute, written, textual = _found(
        known, name, type(struct).__name__, [each.written for each in known.values()]
    )
    del written
    value = getattr(struct, attribute)
    return "" if value is None and textual else value


class _Member(NamedTuple):
    attribute: str
    written: str
    textual: bool
    """Whether the field is text, of which there is always one, if only an empty one."""


@lru_cache
def _members(of: type[msgspec.Struct]) -> dict[str, _Member]:
    return {
        field.encode_name.lower(): _Member(
            field.name, field.encode_name, set(get_args(field.type)) == {str, NoneType}
        )
        for field in msgspec.structs.fields(of)
    }


def _found(fields: dict[str, Any], name: str, owner: str, shown: Sequence[str]) -> Any:
    if name.lower() in fields:
        return fields[name.lower()]
    from calico.model.schema import nearest

    raise NoField(f"{owner} has no field {name!r}; {nearest(name, list(shown))}")


def described(value: Any) -> str:
    """What kind of thing ``value`` is, for sentences."""
    match value:
        case None | _NoValue():
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Resource():
            return f"a {kind_word(type(value))}"
        case msgspec.Struct():
            return f"a {type(value).__name__}"
        case Listing():
            return f"a {value.word}"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def plain(value: Any) -> Any:
    """A resource or a part of one as values that JSON has."""
    match value:
        case Resource():
            return to_builtins(value)
        case msgspec.Struct():
            return msgspec.to_builtins(value)
        case Listing() | list() | tuple():
            return [plain(each) for each in (value.items if isinstance(value, Listing) else value)]
        case dict():
            return {key: plain(each) for key, each in value.items()}
        case _NoValue():
            return None
        case _:
            return value
