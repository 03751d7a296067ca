"""Begins processors: files that run, are declared, and pass their examination."""
