"""A fact as it travels from a store to the calculation."""

from __future__ import annotations

from typing import NamedTuple

from calico.model.ipam import Record
from calico.model.keys import Key
from calico.model.resource import Resource


class Update(NamedTuple):
    """What is known of ``key`` now; ``value`` None: there is no such fact.

    Existence comes from the value. The same update may arrive twice, and steps in between may be missing.
    """

    key: Key
    value: Resource | Record | None


class InSync(NamedTuple):
    """The first complete picture has been delivered. Comes once."""
