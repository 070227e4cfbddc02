"""Desired state into a ruleset and routes."""
