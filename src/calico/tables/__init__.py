"""The engine of the calculation: tables that remember what changed, and tables derived from them."""
