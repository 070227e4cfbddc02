"""Answers about policy, from the same desired state."""
