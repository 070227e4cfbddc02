"""Worlds of the evaluator in few words."""

from __future__ import annotations

from typing import Any

from calico.analysis import Verdict, World
from calico.model.keys import key_of
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.model.validation import defaulted

OUTSIDE = {4: "192.0.2.1", 6: "2001:db8::1"}


def world(*resources: Resource, settings: Settings | None = None) -> World:
    """A world of resources, as a client would have stored them."""
    stored = [defaulted(resource) for resource in resources]
    return World({key_of(resource): resource for resource in stored}, settings)


def judged(
    *resources: Resource, direction: str = "ingress", at: str = "default/db", version: int = 4, **flow: Any
) -> Verdict:
    """What the endpoint ``at`` says to a flow (TCP unless said otherwise) from, or to, outside."""
    near, far = ("destination", "source") if direction == "ingress" else ("source", "destination")
    asked = {"protocol": "TCP", near: at, far: OUTSIDE[version], **flow}
    verdict = getattr(world(*resources).decide(**asked), direction)
    assert isinstance(verdict, Verdict)
    return verdict
