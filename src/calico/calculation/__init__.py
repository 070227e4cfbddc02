"""Facts into what this host should be, incrementally."""
