"""Benchmarks of the control plane: scripts that print a table and write what they measured."""
