"""Addresses: blocks, plans, and the client that carries them out."""
