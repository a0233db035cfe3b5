#!/usr/bin/env python3
"""Downstream: work on every photo once it is there, and go on where this stopped last time.

Run it beside ``shutterwheel up --demo``: ``python examples/downstream.py``. Ctrl-C ends it.
"""

from contextlib import suppress

from shutterwheel import find_cluster, results

at = find_cluster()
with suppress(KeyboardInterrupt), results(at.kafka, "example-archive", at.namespace) as photos:
    for photo in photos:
        # This photo counts as done when the next one is taken: put what must not be lost before.
        print(photo.device_id, photo.state, photo.image.sha256 if photo.image else photo.cause)
