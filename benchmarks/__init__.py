"""Measurements. ``python -m benchmarks`` runs them all; see RESULTS.md for what each row means."""
