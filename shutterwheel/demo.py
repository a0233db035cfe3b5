"""`shutterwheel up --demo`: a fleet of simulated cameras, photographed on schedule, and checked.

Cameras are a process of their own that serves real JPEGs over HTTP. The demo makes a profile and
a schedule for each of them through the public client, watches the results, and, when it runs for
a given time, cancels the schedules, waits until every command has its result, and has the run
checked from topics and blobs (``check.py``).
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import psutil

from connectors.cameras.simulated import LogEntry
from connectors.clients import events
from connectors.clients.publisher import Publisher
from infra.kafka.ports import free_port, port_is_free
from schemas.codec import Codec
from schemas.errors import ShutterwheelError
from schemas.records import CapturePolicy, ScheduleSpec, ScheduleUpserted
from schemas.select import schema_ids
from shutterwheel import check
from shutterwheel.supervisor import Child
from shutterwheel.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.records import DeviceProfile, ScheduleEvent
    from shutterwheel.check import RunReport
    from shutterwheel.cluster import Cluster, Say
    from shutterwheel.watch import View

SCHEDULE: Final = "demo"
LEAD_MS: Final = 5_000
CAMERAS_S: Final = 20.0
"""How long the cameras may take until they answer."""
DRAIN_S: Final = 30.0
"""How long the last commands may take: lead, capture timeout and retries."""


class DemoError(ShutterwheelError):
    """The demo could not be run as asked."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How large a demo."""

    devices: int = 100
    """1 to 1,000,000."""
    every_ms: int = 5_000
    """Period of each camera's schedule."""
    for_s: float | None = None
    """How long to take photos; ``None``: until it is stopped."""

    def schedule(self) -> tuple[ScheduleSpec, CapturePolicy]:
        """Return each camera's schedule."""
        return (
            ScheduleSpec("interval", self.every_ms),
            CapturePolicy(lead_ms=LEAD_MS, spread_ms=self.every_ms),
        )


class Demo:
    """The cameras and schedules of a demo, on a running cluster."""

    def __init__(self, options: DemoOptions, cluster: Cluster, say: Say) -> None:
        """Take the cluster, which has been started."""
        self.options = options
        self._cluster = cluster
        self._say = say
        self._codec = Codec(schema_ids(cluster.options.schema_registry))
        self._state: Path = cluster.data / "demo.json"
        self._since = check.offsets_now(cluster.kafka, cluster.options.namespace)
        self._started_ms = int(psutil.Process().create_time() * 1000)
        self.camera_port = self._choose_port()
        self.watch = Watch(cluster.kafka, cluster.options.namespace, self._since, self._codec)

    def _choose_port(self) -> int:
        """Return the port the cameras had last time, so that nothing need be told anew."""
        try:
            port = int(json.loads(self._state.read_text())["camera_port"])
        except (OSError, ValueError, KeyError, TypeError):
            port = 0
        if not port or not port_is_free(port):
            port = free_port()
        self._state.write_text(json.dumps({"camera_port": port}))
        return port

    # -- starting ------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the cameras, make devices and schedules known."""
        self._say(f"starting {self.options.devices:,} simulated cameras")
        command = [
            *(sys.executable, "-m", "connectors.cameras.simulated", "--tether"),
            *("--port", str(self.camera_port), "--devices", str(self.options.devices)),
        ]
        log = self._cluster.data / "logs" / "cameras.log"
        child = self._cluster.supervisor.add(Child("cameras", command, log))
        self._await_cameras(child)
        self._cluster.await_ready()
        self._say("publishing profiles and schedules")
        with self._publisher() as publisher:
            publisher.publish_many(self._profiles())
            report = publisher.publish_many(self._schedules(), wait=True)
        if report.refused or report.undecided or report.failed:
            why = report.refusals[0].reason if report.refusals else "no answer from the wheel"
            raise DemoError(
                f"{report.refused + report.undecided + report.failed} of "
                f"{report.published} schedules were not accepted: {why}"
            )

    def _publisher(self) -> Publisher:
        options = self._cluster.options
        return Publisher(self._cluster.kafka, options.namespace, registry=options.schema_registry)

    def _await_cameras(self, child: Child) -> None:
        deadline_s = time.monotonic() + CAMERAS_S
        while port_is_free(self.camera_port):
            self._cluster.watch()
            if time.monotonic() > deadline_s:
                raise DemoError(f"The cameras did not start: {child.last_words()}")
            time.sleep(0.05)

    def device_ids(self) -> Iterator[str]:
        """Yield the ids of the cameras."""
        return (f"cam-{number:05d}" for number in range(1, self.options.devices + 1))

    def _profiles(self) -> Iterator[DeviceProfile]:
        base = f"http://127.0.0.1:{self.camera_port}/cam"
        for device_id in self.device_ids():
            yield events.profile(
                device_id, f"{base}/{device_id}/snapshot.jpg", model="simulated", site="demo"
            )

    def _schedules(self) -> Iterator[ScheduleEvent]:
        spec, policy = self.options.schedule()
        for device_id in self.device_ids():
            request_id = events.new_request_id()
            now_ms = events.now_ms()
            yield ScheduleUpserted(request_id, device_id, SCHEDULE, spec, policy, now_ms)

    # -- ending --------------------------------------------------------------------------------

    def finish(self) -> None:
        """Cancel the schedules; wait for the wheel's answers and each command's result."""
        self._say("cancelling the schedules, awaiting the last captures")
        with self._publisher() as publisher:
            publisher.publish_many(
                (events.cancelled(device_id, SCHEDULE) for device_id in self.device_ids()),
                wait=True,
            )
        deadline_s = time.monotonic() + DRAIN_S
        quiet, heard = 0, False
        while quiet < 5:
            self._cluster.watch()
            heard = heard or self._cluster.has_heard_all()
            quiet = quiet + 1 if heard and self.watch.view().open == 0 else 0
            if time.monotonic() > deadline_s:
                open_now = self.watch.view().open
                late = "" if heard else "the wheel has not answered yet, "
                self._say(f"{late}{open_now} commands have no result; checking anyway")
                return
            time.sleep(0.1)

    def check(self) -> RunReport:
        """Check the run from its topics and blobs, and from the cameras' own log."""
        self._say("checking topics and photos")
        return check.check_run(
            self._cluster.kafka,
            self._cluster.options.namespace,
            self._cluster.blobs,
            since=self._since,
            started_ms=self._started_ms,
            camera_logs=self._camera_log(),
            schema_registry=self._cluster.options.schema_registry,
        )

    def _camera_log(self) -> Iterator[LogEntry]:
        """Yield what the cameras saw, page by page."""
        since = 0
        while True:
            url = f"http://127.0.0.1:{self.camera_port}/log?since={since}"
            with urllib.request.urlopen(url, timeout=30.0) as answer:
                lines = answer.read().splitlines()
            for line in lines:
                entry = msgspec.json.decode(line, type=LogEntry)
                since = max(since, entry.seq)
                yield entry
            if not lines:
                return

    def close(self) -> None:
        """Stop watching."""
        self.watch.close()

    def view(self) -> View:
        """Return what has been seen so far."""
        return self.watch.view()
