"""Restore: a system's state from its topics into an empty one, equal by hash.

``pieces.py`` says how a partition's offsets are made anew, gaps included; ``pour.py`` writes them,
by batches (``batches.py``), markers (``markers.py``) and the few ``transactions.py`` there must be,
over ``sink.py``; ``tables.py`` gathers tables from changelogs, or by folding ticks; ``crew.py``
shares the work out; ``run.py`` does all of it.
"""
