"""The resources an operator writes, as frozen values."""
