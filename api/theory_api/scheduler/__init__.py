"""The single writer of a shard of plans, and what runs because of its decisions."""
