"""Every store in memory, with the semantics of the durable ones: for tests and the simulator."""
