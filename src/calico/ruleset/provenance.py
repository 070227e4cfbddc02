"""Where a rule comes from, in people's words: the comment that it carries in the kernel.

In:   ``Origin``.
Out:  one line, e.g. "GlobalNetworkPolicy deny-all tier default ingress rule 2"; of merged rules one line for all.
Next: both back ends write it into the rule's comment, within the limits of their tool.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from calico.desired import Origin

_RANGES: Final = 6
"""Ranges of rule numbers that a comment lists."""


def describe(origin: Origin) -> str:
    """One line that names the resource, the direction and the rule, which counts from 0 as in explanations."""
    if origin.kind == "Tier":
        return f"Tier {origin.name} {origin.direction} end of tier"
    if origin.kind == "Profile":
        if origin.rule is None:
            return f"{origin.direction} end of profiles"
        return f"Profile {origin.name} {origin.direction} rule {origin.rule}"
    name = f"{origin.namespace}/{origin.name}" if origin.namespace else origin.name
    end = "" if origin.rule is None else f" rule {origin.rule}"
    return f"{origin.kind} {name} tier {origin.tier} {origin.direction}{end}"


def describe_all(origins: Sequence[Origin]) -> str:
    """One line, of bounded length but for names, for rules that became one; "" for none.

    "GlobalNetworkPolicy deny-all tier default ingress rules 0-41, 43" where they are of one owner, else how many
    rules of how many policies they are, and the first and the last of them.
    """
    if len(origins) < 2:
        return "".join(describe(origin) for origin in origins)
    owners = {(o.kind, o.tier, o.namespace, o.name, o.direction) for o in origins}
    first, last = origins[0], origins[-1]
    if len(owners) > 1:
        return f"{len(origins)} rules of {len(owners)} policies: {describe(first)} to {describe(last)}"
    numbers = sorted({origin.rule for origin in origins if origin.rule is not None})
    if len(numbers) < 2:
        return describe(first)
    ranges = _ranges(numbers)
    shown = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges[:_RANGES])
    if left := sum(high - low + 1 for low, high in ranges[_RANGES:]):
        shown += f" and {left} more"
    return f"{describe(first).rpartition(' rule ')[0]} rules {shown}"


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    result: list[tuple[int, int]] = []
    for number in numbers:
        if result and number == result[-1][1] + 1:
            result[-1] = (result[-1][0], number)
        else:
            result.append((number, number))
    return result
