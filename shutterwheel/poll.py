"""One poller process: device.profiles in, the cameras in between, device.heartbeats out."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn

import uvloop

from connectors.cameras.base import CameraSettings
from connectors.cameras.registry import Cameras
from connectors.clients.kafka import CONNECT_TIMEOUT_S, make_codec
from connectors.clients.outbox import Outbox
from connectors.gateway.follow import News, follow_profiles
from connectors.gateway.poller import Poller, PollSettings
from infra.kafka.topics import topic_name
from schemas.errors import ShutterwheelError
from streams.core.ids import partition_of
from streams.observability.http import Condition, OperatorServer
from streams.observability.logs import configure, get_logger
from streams.observability.metrics import Metrics

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from schemas.records import DeviceHeartbeat

HEARTBEATS: Final = "device.heartbeats"
SERVE_S: Final = 0.1
"""How often reports of delivery are looked for."""
EXIT_AGAIN: Final = 3
"""What went wrong may be well after a new start."""


@dataclass(frozen=True, slots=True)
class PollOptions:
    """What a poller is started with."""

    kafka: str
    namespace: str = ""
    schema_registry: str = ""
    port: int = 0
    """Port of /metrics, /health, /ready on 127.0.0.1; 0: any."""
    allow: tuple[str, ...] = ()
    """Networks whose cameras may be contacted; empty: loopback and private ones."""
    log_level: str = "info"
    tethered: bool = False
    """Stop when standard input closes: the supervisor has gone."""
    poll: PollSettings = field(default_factory=PollSettings)


def run(options: PollOptions) -> NoReturn:
    """Poll until told to stop; never returns. Left by ``os._exit``, as a worker is."""
    configure("poll", str(options.poll.share[0]), options.log_level)
    log = get_logger(__name__)
    code = 0
    try:
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_Process(options).main())
    except ShutterwheelError as error:
        log.error("poller stops", reason=error.line(), kind=type(error).__name__)
        code = EXIT_AGAIN if error.retryable else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        log.exception("poller crashes")
        code = EXIT_AGAIN
    sys.stderr.flush()
    os._exit(code)


class _Process:
    """Puts a poller together and runs it."""

    def __init__(self, options: PollOptions) -> None:
        self._options = options
        self._metrics = Metrics("poll", str(options.poll.share[0]))
        self._codec = make_codec(options.schema_registry)
        self._topic = topic_name(options.namespace, HEARTBEATS)
        self._outbox = Outbox(options.kafka, None, CONNECT_TIMEOUT_S)
        self._partitions = self._outbox.partitions(self._topic)
        self._whole = False

    async def main(self) -> None:
        """Run until told to stop, or until something fails."""
        options, loop = self._options, asyncio.get_running_loop()
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if options.tethered:
            loop.add_reader(sys.stdin.fileno(), self._on_tether, stop)
        allow = options.allow
        cameras = Cameras(CameraSettings(allowed_networks=allow) if allow else CameraSettings())
        poller = Poller(options.poll, cameras, self._alive, self._metrics.polls.inc)
        self._metrics.known_devices.bind(lambda: len(poller))
        ended = threading.Event()

        def tell(news: News) -> None:
            loop.call_soon_threadsafe(self._learn, poller, news)

        server = OperatorServer(self._metrics, ready=self._condition)
        port = await server.start(port=options.port)
        get_logger(__name__).info("poller starts", port=port, pid=os.getpid())
        following = loop.run_in_executor(
            None, follow_profiles, options.kafka, options.namespace, self._codec, tell, ended
        )
        work = (poller.run(), self._serve(), self._until(stop))
        tasks: list[asyncio.Future[None]] = [asyncio.ensure_future(one) for one in work]
        try:
            done, _ = await asyncio.wait([*tasks, following], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            ended.set()
            for task in tasks:
                task.cancel()
            await cameras.close()
            await server.stop()
            self._outbox.flush(CONNECT_TIMEOUT_S)

    def _on_tether(self, stop: asyncio.Event) -> None:
        if not os.read(sys.stdin.fileno(), 1):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stop.set()

    def _learn(self, poller: Poller, news: News) -> None:
        for profile in news.profiles:
            poller.learn(profile)
        for device_id in news.gone:
            poller.forget(device_id)
        self._whole = self._whole or news.whole

    def _condition(self) -> Condition:
        reason = "" if self._whole else "the device profiles are being read"
        return Condition(ok=self._whole, reason=reason)

    def _alive(self, beat: DeviceHeartbeat) -> None:
        self._outbox.put(
            self._topic,
            beat.device_id.encode(),
            self._codec.encode(beat),
            partition_of(beat.device_id, self._partitions),
            self._delivered,
        )

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._metrics.records_produced.inc(HEARTBEATS)
        else:
            # Nothing is sent again: the next poll says as much.
            get_logger(__name__).warning("a heartbeat was not written", reason=error.str())

    @staticmethod
    async def _until(stop: asyncio.Event) -> None:
        await stop.wait()

    async def _serve(self) -> None:
        while True:
            self._outbox.serve(0)
            await asyncio.sleep(SERVE_S)
