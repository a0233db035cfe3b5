"""The bench ``schedules``: what a next fire costs, and whether others agree when it is.

``corpus.py`` makes the questions, ``python_peers.py`` and ``QuartzPeer.java`` answer them in
processes of their own, ``agreement.py`` sorts what differs into classes, ``bench.py`` runs it all.
"""
