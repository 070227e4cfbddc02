"""Answers about policy, from the same desired state that agents enforce.

from calico.analysis import World
world = World.load(documents)
decision = world.decide(source="shop/web-1", destination="shop/db-1", protocol="TCP", port=5432)
print(decision.allowed, decision.ingress)
"""

from calico.analysis.ends import UnknownEndError
from calico.analysis.evaluate import Step, Verdict
from calico.analysis.world import Decision, World

__all__ = ["Decision", "Step", "UnknownEndError", "Verdict", "World"]
