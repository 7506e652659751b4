"""RNA velocity: moments of spliced and unspliced counts, their time derivatives, and graphs of transitions."""
