"""A firewall as a value."""
