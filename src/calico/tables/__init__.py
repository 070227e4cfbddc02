"""Tables that remember what changed: the engine of the calculation."""
