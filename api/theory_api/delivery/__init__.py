"""What is delivered to run: the registry, its snapshots and pins."""
