"""The command `windlass`: the only place that knows everything."""
