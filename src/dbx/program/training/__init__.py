"""Move parameters of recorded steps, and keep what helps."""
