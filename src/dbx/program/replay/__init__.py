"""Run recorded steps again."""
