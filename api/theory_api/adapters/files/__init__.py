"""State in plain files: artifacts by digest, notes of executions, and the home that holds both."""
