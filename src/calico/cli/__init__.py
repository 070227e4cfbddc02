"""calicoctl."""
