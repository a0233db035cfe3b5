"""Kafka clients for programs upstream and downstream: ``publisher`` and ``results``.

``from shutterwheel import Publisher, results`` is the short way to them.
"""
