"""What scheduler and services need from the outside world; each docstring is the contract."""
