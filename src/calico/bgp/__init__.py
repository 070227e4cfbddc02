"""Sessions and BIRD configuration."""
