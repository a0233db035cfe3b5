"""The schedulers that a user would take instead, on the same load as a fleet of ours.

A program a peer, and a file that says how it is made ready and run: Quartz (``quartz.py``), in
memory and on PostgreSQL (``postgres.py``); gocron (``gocron.py``); APScheduler
(``apscheduler3.py``). A program is a process: it takes a ``Job`` (``work.py``), says
``{"event": "ready"}``, ``first``, ``last`` and ``written`` on standard output, and ends when its
standard input closes.
"""
