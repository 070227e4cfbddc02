"""Calico: layer-3 networks and uniform policy for data centres."""

__version__ = "0.1.0"
