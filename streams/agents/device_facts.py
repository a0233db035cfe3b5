"""Facts about devices for the fold: device.profiles and device.events in, ``DeviceFact`` out.

The fold knows of devices only what its ticks tell it. Here records become facts: a profile says
where its device stands, an event that its captures fail or succeed again. What the fold knows
already is left out, so a tick carries news only; a profile that is written again costs nothing.

Profiles that can never work are dead-lettered by the captures app, which needs all of them; here
they say nothing. Events that are none are dead-lettered here, by their only reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import DecodeError
from schemas.records import (
    DeviceFact,
    DeviceFacts,
    DeviceFailing,
    DeviceOffline,
    DeviceOnline,
    DeviceProfile,
    DeviceRecovered,
    DeviceReset,
)
from streams.agents.device_profiles import check_home
from streams.core.facts import FAILING, PLACE, RECOVERED, check_fact, known_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from schemas.records import DeviceEvent
    from streams.core.partition import PartitionState
    from streams.runtime.dead_letters import DeadLetters
    from streams.runtime.partition import Partition, Step

PROFILES, EVENTS = "device.profiles", "device.events"


class DeviceFactReader:
    """Makes facts of records, of the devices of one app's partitions."""

    def __init__(self, codec: Codec, dead_letters: DeadLetters, partitions: int) -> None:
        self._codec = codec
        self._dead = dead_letters
        self._partitions = partitions

    def of_profiles(
        self, partition: Partition, records: Iterable[ConsumerRecord]
    ) -> tuple[DeviceFact, ...]:
        """Return what profiles say that is new to the fold."""
        facts = [self._place(partition, record) for record in records]
        return _news(partition.state, [fact for fact in facts if fact is not None])

    def of_events(
        self, partition: Partition, records: Iterable[ConsumerRecord], step: Step
    ) -> tuple[DeviceFact, ...]:
        """Return what events say that is new to the fold."""
        facts: list[DeviceFact] = []
        for record in records:
            try:
                fact = self._health(partition, record)
            except DecodeError as error:
                self._dead.write(step, record, EVENTS, error.code, str(error))
            else:
                if fact is not None:
                    facts.append(fact)
        return _news(partition.state, facts)

    def _place(self, partition: Partition, record: ConsumerRecord) -> DeviceFact | None:
        try:
            if record.value is None:
                device_id = (record.key or b"").decode()
                fact = DeviceFact(device_id, PLACE)
            else:
                profile = self._codec.decode_as(record.value, DeviceProfile)
                device_id = profile.device_id
                if device_id.encode() != record.key:
                    return None
                fact = _place_of(profile)
            check_home(partition, device_id, self._partitions)
        except (DecodeError, UnicodeError):
            return None
        return fact if check_fact(fact) is None else None

    def _health(self, partition: Partition, record: ConsumerRecord) -> DeviceFact | None:
        event = self._codec.decode(record.value or b"")
        if not isinstance(event, DEVICE_EVENTS):
            raise DecodeError("wrong_record", f"{type(event).__name__} is no device event.")
        fact = _health_of(event)
        check_home(partition, event.device_id, self._partitions)
        refusal = None if fact is None else check_fact(fact)
        if refusal is not None:
            raise DecodeError(refusal.code, refusal.reason)
        return fact


DEVICE_EVENTS = (DeviceFailing, DeviceRecovered, DeviceOnline, DeviceOffline, DeviceReset)


def _place_of(profile: DeviceProfile) -> DeviceFact:
    if profile.removed:
        return DeviceFact(profile.device_id, PLACE)
    return DeviceFact(
        profile.device_id, PLACE, latitude=profile.latitude, longitude=profile.longitude
    )


def _health_of(event: DeviceEvent) -> DeviceFact | None:
    """Return what an event says about captures; online, offline and reset say nothing of them."""
    if isinstance(event, DeviceFailing):
        return DeviceFact(event.device_id, FAILING, failures=event.failures, cause=event.cause)
    if isinstance(event, DeviceRecovered):
        return DeviceFact(event.device_id, RECOVERED)
    return None


def _news(state: PartitionState, facts: list[DeviceFact]) -> tuple[DeviceFact, ...]:
    """Return the facts that change what is known, in their order."""
    known: dict[str, DeviceFacts] = {}
    news: list[DeviceFact] = []
    for fact in facts:
        device_id = fact.device_id
        before = known.get(device_id) or state.facts.get(device_id) or DeviceFacts(device_id)
        after = known_after(before, fact)
        if after != before:
            known[device_id] = after
            news.append(fact)
    return tuple(news)
