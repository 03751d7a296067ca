"""Truth in a SQL database: the ledger, its projections, and the ways to read them."""
