#!/usr/bin/env python3
"""Ten lines upstream: publish a schedule, wait for the decision, read one photo, end it.

Run it beside ``shutterwheel up --demo``, in the same folder: ``python examples/upstream.py``. The
broker is found in ``.shutterwheel/run.json``, or in SHUTTERWHEEL_KAFKA.
"""

from shutterwheel import Publisher, find_cluster, results

device = "cam-00001"
at = find_cluster()
with (
    Publisher(at.kafka, at.namespace) as publisher,
    results(at.kafka, namespace=at.namespace, device=device) as photos,
):
    print(publisher.schedule(device, "upstream", every="2s", lead="1s").decision())
    photo = next(one for one in photos if one.schedule_id == "upstream")
    print(photo.state, photo.image.uri if photo.image else photo.cause)
    publisher.cancel(device, "upstream")
