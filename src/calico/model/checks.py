"""Checks that many kinds share: names, labels, selectors, prefixes, ports.

In:   one value, and its path in the resource.
Out:  ``Finding`` for each thing that is wrong with it; nothing when it is right.
Next: each kind puts them together, in its class or in the ``*_validation`` module of its subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, TypeVar

from calico.model.address import AddressError, Family, parse_address, parse_cidr
from calico.model.errors import Finding, Findings, ModelError, Path, SelectorError
from calico.model.numbers import MAX_PORT, port_name

T = TypeVar("T")

NAME_LENGTH: Final = 253
SELECTOR_LENGTH: Final = 1024
LABEL_VALUE_LENGTH: Final = 63

_WORD: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_PART: Final = re.compile(_WORD)
_SUBDOMAIN: Final = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_QUALIFIED: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?")
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_MAC: Final = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h)")


def dns_label(path: Path, value: str) -> Findings:
    """A word of DNS: at most 63 lower-case letters, digits and ``-``, not at the ends."""
    if len(value) > 63 or _LABEL_PART.fullmatch(value) is None:
        yield Finding(
            path,
            f"{value!r} is no DNS label",
            "write up to 63 lower-case letters, digits and '-', with a letter or digit at both ends",
        )


def only(path: Path, value: str, allowed: str, kind: str) -> Findings:
    """The one name that a resource of ``kind`` may have."""
    if value != allowed:
        yield Finding(path, f"{value!r} is no name of a {kind}", f"there is only one, called {allowed!r}")


def dns_subdomain(path: Path, value: str) -> Findings:
    """Words of DNS with dots between, at most 253 characters in all."""
    if len(value) > NAME_LENGTH or _SUBDOMAIN.fullmatch(value) is None:
        yield Finding(
            path,
            f"{value!r} is no DNS subdomain",
            "write up to 253 lower-case letters, digits, '-' and '.', each part between dots with a letter "
            "or digit at both ends",
        )


def labels(path: Path, values: Mapping[str, str]) -> Findings:
    """Labels as Kubernetes allows them, keys and values."""
    for key, value in values.items():
        yield from qualified_name((*path, key), key)
        if value and (len(value) > LABEL_VALUE_LENGTH or _QUALIFIED.fullmatch(value) is None):
            yield Finding(
                (*path, key),
                f"{value!r} is no value of a label",
                f"write up to {LABEL_VALUE_LENGTH} letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            )


def qualified_name(path: Path, key: str) -> Findings:
    """A key of a label or an annotation: a name, and before it optionally a DNS subdomain and a ``/``."""
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > NAME_LENGTH or _SUBDOMAIN.fullmatch(prefix) is None):
        yield Finding(
            path,
            f"the part before '/' of key {key!r} is no DNS subdomain",
            "write lower-case letters, digits, '-' and '.', as in example.com/role",
            at_key=True,
        )
    if len(name) > 63 or _QUALIFIED.fullmatch(name) is None:
        yield Finding(
            path,
            f"{name!r} is no name for a key",
            "write up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            at_key=True,
        )


def selector(path: Path, text: str, *, may_be_global: bool = False) -> Findings:
    """The text of a selector; ``global()`` only where it is allowed, and there only alone."""
    from calico.model.selector import parse  # readers of a store need no parser
    from calico.model.selector_tree import Global, walk

    if len(text) > SELECTOR_LENGTH:
        yield Finding(
            path,
            f"the selector has {len(text)} characters",
            f"{SELECTOR_LENGTH} is the most; select by fewer labels",
        )
    try:
        node = parse(text).node
    except SelectorError as error:
        message = f"{text!r} is no selector: column {error.column}"
        yield Finding(path, message, error.reason, offset=error.column - 1)
        return
    if not any(isinstance(each, Global) for each in walk(node)):
        return
    if not may_be_global:
        yield Finding(
            path,
            "global() has no meaning here",
            "only the namespaceSelector of a rule's source or destination takes it",
        )
    elif not isinstance(node, Global):
        yield Finding(path, "global() is combined with something else", "write global() alone")


def prefix(path: Path, text: str, family: Family | None = None) -> Findings:
    """A prefix, or an address that stands for one of full length; of ``family`` if one is given."""
    try:
        found = parse_cidr(text)
    except AddressError as error:
        yield Finding(path, str(error), "write a prefix such as 10.0.0.0/16 or fd00::/64, or an address")
        return
    if family not in {None, found.family}:
        yield Finding(path, f"{text!r} is IPv{found.family}", f"an IPv{family} prefix belongs here")


def address(path: Path, text: str, family: Family | None = None) -> Findings:
    """A single address, without a length; of ``family`` if one is given."""
    try:
        found = parse_address(text)
    except AddressError as error:
        yield Finding(path, str(error), "write an address without a length, such as 10.0.0.1 or fd00::1")
        return
    if family not in {None, found.family}:
        yield Finding(path, f"{text!r} is IPv{found.family}", f"an IPv{family} address belongs here")


def interface(path: Path, name: str) -> Findings:
    """The name of a Linux interface."""
    if _INTERFACE.fullmatch(name) is None:
        yield Finding(
            path, f"{name!r} is no name of an interface", "write 1 to 15 letters, digits, '_', '.' and '-'"
        )


def mac(path: Path, text: str) -> Findings:
    """A MAC address."""
    if _MAC.fullmatch(text) is None:
        yield Finding(
            path, f"{text!r} is no MAC address", "write six pairs of hex digits, as in ee:ee:ee:ee:ee:ee"
        )


def duration(path: Path, text: str | None) -> Findings:
    """A span of time, or None."""
    if text is not None and text != "0" and (not text or _DURATION.sub("", text)):
        yield Finding(path, f"{text!r} is no duration", "write numbers with units, as in 90s or 1m30s")


def port_number(path: Path, port: int) -> Findings:
    """The number of a port."""
    if not 1 <= port <= MAX_PORT:
        yield Finding(path, f"{port} is no port", f"numbers are 1 to {MAX_PORT}")


def named_port(path: Path, name: str) -> Findings:
    """The name of a port."""
    yield from readable(path, port_name, name)


def within(path: Path, value: int | None, least: int, most: int) -> Findings:
    """A number of a range, both ends included, or None."""
    if value is not None and not least <= value <= most:
        yield Finding(path, f"{value} is out of range", f"write {least} to {most}")


def one_of(path: Path, value: str | None, allowed: Iterable[str]) -> Findings:
    """One of some words, or None or empty."""
    if value and value not in allowed:
        yield Finding(path, f"{value!r} is not known here", f"write one of {', '.join(allowed)}")


def at_most(path: Path, values: Collection[object], count: int, what: str) -> Findings:
    """A list of limited length."""
    if len(values) > count:
        yield Finding(path, f"there are {len(values)} {what}", f"{count} is the most; split them up")


def readable(path: Path, read: Callable[[T], object], value: T) -> Findings:
    """What ``read`` takes; the sentence of the error that it raises is "what is wrong; what would be right"."""
    try:
        read(value)
    except ModelError as error:
        message, _, remedy = str(error).partition("; ")
        yield Finding(path, message, remedy)
