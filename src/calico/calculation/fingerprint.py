"""Whether two programs mean the same by an endpoint: a digest of its row and of all rules that the row leads to.

In:   rows of ``calico.desired``.
Out:  ``fingerprint``: equal where the rows are.
Next: ``cli.proof`` compares its own with the agent's: only of what the agent means can the kernel be a proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from hashlib import sha256

from calico.desired import EndpointRow, PolicyId, PolicyRow, TierRow


def fingerprint(
    row: EndpointRow, policies: Mapping[PolicyId, PolicyRow], profiles: Mapping[str, PolicyRow]
) -> str:
    """The same text in every process for the same rows; the members of sets are not in it."""
    used = {policy: policies.get(policy) for tier in _tiers(row) for policy in tier.policies}
    given = [(name, profiles.get(name)) for name in row.profiles]
    return sha256(repr((row, sorted(used.items()), given)).encode()).hexdigest()


def _tiers(value: object) -> Iterator[TierRow]:
    """Every tier within a row, in whichever layer."""
    if isinstance(value, TierRow):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from _tiers(each)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tiers(getattr(value, field.name))
