"""What the status of several kinds has in common: conditions, as in Kubernetes."""

from __future__ import annotations

from typing import Literal

from calico.model.resource import Strict


class Condition(Strict, frozen=True, kw_only=True):
    """One thing that holds of a resource, does not, or is not known, since when and why."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int | None = None


class Conditions(Strict, frozen=True, kw_only=True):
    """A status that is nothing but conditions."""

    conditions: list[Condition] = []
