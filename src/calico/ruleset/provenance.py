"""Where a rule comes from, in people's words: the comment that it carries in the kernel.

In:   ``Origin``.
Out:  one line, e.g. "GlobalNetworkPolicy deny-all tier default ingress rule 2".
Next: both back ends write it into the rule's comment, within the limits of their tool.
"""

from __future__ import annotations

from calico.desired import Origin


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
