"""Values and laws: what a plan is, what may happen to it, what it costs. Pure, no IO, no clock."""
