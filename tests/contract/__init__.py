"""What every operator of the catalogue promises: a file per promise, and in ``examples`` what they are tried on.

Each ``test_<promise>.py`` has a plain function ``check(example)`` that raises where the promise is broken.
"""
