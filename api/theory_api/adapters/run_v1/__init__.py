"""Both ends of `theory.run.v1` that a control plane has: a client, and a gateway for the bytes."""
