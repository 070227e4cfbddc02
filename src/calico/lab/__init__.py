"""The virtual data centre."""
