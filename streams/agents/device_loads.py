"""How busy devices are: device.loads in, kept for whoever ranks captures (SPEC 2.3).

Device health tells of a load when it has moved by much, and of a busy device again each quarter of
an hour (``streams/core/health.py``). So what is kept here are the devices that were told of within
half an hour to an hour, in two generations: when the younger one is ``KEPT_MS`` old it becomes the
older one, which is dropped. A device that nobody told of has no load that matters.

An input of the captures app beside its commands. What is lost with a worker comes again with the
next change, or within that quarter of an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.errors import DecodeError
from schemas.records import DeviceLoad
from streams.agents.device_profiles import check_home
from streams.agents.ports import Load

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from streams.runtime.clock import Clock
    from streams.runtime.dead_letters import DeadLetters
    from streams.runtime.partition import Partition, Step

TOPIC: Final = "device.loads"
KEPT_MS: Final = 1_800_000
"""How long a load is kept at least: twice as long as a busy device goes without being told of."""
IDLE: Final = Load()


class DeviceLoads:
    """The loads of the devices of this worker's partitions that are busy, and the worker's own."""

    def __init__(
        self,
        codec: Codec,
        dead_letters: DeadLetters,
        clock: Clock,
        partitions: int,
        own: Callable[[], Load] = Load,
    ) -> None:
        """Take the parts; ``on_loads`` is the agent's handler, ``own`` tells the worker's load."""
        self.own = own
        self._codec = codec
        self._dead = dead_letters
        self._clock = clock
        self._partitions = partitions
        self._young: dict[str, Load] = {}
        self._old: dict[str, Load] = {}
        self._turned_ms = clock.now_ms()

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def of(self, device_id: str) -> Load:
        """Return the load of a device as it was told last; 0 where nobody did."""
        found = self._young.get(device_id)
        return found if found is not None else self._old.get(device_id, IDLE)

    def on_loads(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        """Take in loads; what is none is dead-lettered."""
        self._turn()
        for record in records:
            try:
                load = self._codec.decode_as(record.value or b"", DeviceLoad)
                check_home(partition, load.device_id, self._partitions)
                if not (0.0 <= load.cpu <= 1.0 and 0.0 <= load.memory <= 1.0):
                    raise DecodeError("bad_load", "A load is two shares, 0 to 1 each.")
            except DecodeError as error:
                self._dead.write(step, record, TOPIC, error.code, str(error))
                continue
            self._young[load.device_id] = Load(load.cpu, load.memory)

    def _turn(self) -> None:
        now_ms = self._clock.now_ms()
        if now_ms - self._turned_ms >= KEPT_MS:
            self._old, self._young, self._turned_ms = self._young, {}, now_ms
