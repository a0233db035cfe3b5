"""Restore: a system's state from its topics into an empty one, equal by hash.

``pieces.py`` says how a partition's offsets are made anew, gaps included; ``pour.py`` writes them;
``tables.py`` gathers tables from changelogs, or by folding ticks; ``run.py`` does all of it.
"""
