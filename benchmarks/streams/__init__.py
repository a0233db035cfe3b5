"""The streaming runtime beside its peers: the same work, records and broker for each.

``bench.py`` measures; each peer has a file of its own here, which says how it is run, and a
program. A program is a process: it takes a ``Job`` (``work.py``) as JSON in its one argument, says
``{"event": "first"}`` and ``{"event": "last"}`` on standard output, and ends when its standard
input closes.
"""
