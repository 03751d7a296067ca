"""Examines processors from outside: whether one keeps the contract, whatever it is written in."""
