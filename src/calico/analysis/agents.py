"""The settings that the facts give every agent.

In:   all facts, FelixConfigurations among them.
Out:  ``settings_of``: what all agents have in common.
Next: ``analysis.world`` judges by them: failsafe ports, and what becomes of traffic from workloads to their hosts.
"""

from __future__ import annotations

from collections.abc import Mapping

from calico.model.felix import FelixConfiguration
from calico.model.keys import Key
from calico.model.resource import Resource
from calico.model.settings import Settings
from calico.model.settings_sources import applying, resolve


def settings_of(facts: Mapping[Key, Resource]) -> Settings:
    """Those of FelixConfiguration ``default``; what single nodes, their files and environments add is left out."""
    configurations = [each for each in facts.values() if isinstance(each, FelixConfiguration)]
    if not configurations:
        return Settings()
    stored, _ = applying(configurations, "", None)
    return resolve(stored, backend="nftables").settings
