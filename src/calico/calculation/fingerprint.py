"""Whether two programs mean the same by an endpoint: a digest of its row and of all rules that the row leads to.

In:   rows of ``calico.desired``.
Out:  ``fingerprint``: equal where the rows are.
Next: ``cli.proof`` compares its own with the agent's: only of what the agent means can the kernel be a proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from hashlib import sha256

from calico.desired import EndpointRow, PolicyId, PolicyRow, TierRow


def fingerprint(
    row: EndpointRow, policies: Mapping[PolicyId, PolicyRow], profiles: Mapping[str, PolicyRow]
) -> str:
    """The same text in every process for the same rows; the members of sets are not in it."""
    used = {policy: policies.get(policy) for tier in _tiers(row) for policy in tier.policies}
    given = [(name, profiles.get(name)) for name in row.profiles]
    return sha256(repr((row, sorted(used.items()), given)).encode()).hexdigest()


def _tiers(row: EndpointRow) -> Iterator[TierRow]:
    """Every tier that the row speaks of, wherever it does."""
    for field in fields(row):
        value = getattr(row, field.name)
        if isinstance(value, tuple):
            yield from (each for each in value if isinstance(each, TierRow))
