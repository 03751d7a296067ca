"""Theory's control plane: plans, budgets and a ledger around containerised work."""
