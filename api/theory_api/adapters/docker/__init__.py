"""Processors as hardened containers of a Docker engine on this machine."""
