"""``make bench``."""

from benchmarks.workflow.workflow import main

main()
