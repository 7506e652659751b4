"""``make bench``."""

from benchmarks.workflow import main

main()
