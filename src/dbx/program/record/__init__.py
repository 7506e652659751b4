"""Run an operator once and record it."""
