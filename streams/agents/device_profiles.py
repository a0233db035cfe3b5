"""Device profiles: device.profiles in, kept beside the captures that need them.

The newest good profile of a device counts. One that can never work (an unknown protocol, an
address outside the networks the settings allow) is dead-lettered and changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from schemas.errors import CameraError, DecodeError
from schemas.records import DeviceProfile
from streams.core import ids
from streams.core.facts import check_place
from streams.core.schedule import validate_device_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiokafka import ConsumerRecord

    from schemas.codec import Codec
    from streams.agents.ports import Photos
    from streams.runtime.dead_letters import DeadLetters
    from streams.runtime.partition import Partition, Step

TOPIC = "device.profiles"
TABLE = "profiles"
CACHE = 200_000
"""Most profiles kept decoded; about 500 bytes each."""


def check_home(partition: Partition, device_id: str, partitions: int) -> None:
    """Raise ``DecodeError`` if this is no device's id, or its records belong elsewhere."""
    refusal = validate_device_id(device_id)
    if refusal is not None:
        raise DecodeError(refusal.code, refusal.reason)
    home = ids.partition_of(device_id, partitions)
    if home != partition.number:
        raise DecodeError(
            "wrong_partition",
            f"Device {device_id!r} belongs to partition {home}, not {partition.number}.",
        )


class DeviceProfiles:
    """The profiles of the devices of this worker's partitions."""

    def __init__(
        self,
        photos: Photos,
        codec: Codec,
        dead_letters: DeadLetters,
        partitions: int,
        changed: Callable[[str], None] | None = None,
    ) -> None:
        """Take the parts; ``on_profiles`` is the agent's handler.

        ``changed`` is told the device whose profile, lately used, became another one.
        """
        self._changed = changed
        self._photos = photos
        self._codec = codec
        self._dead = dead_letters
        self._partitions = partitions
        self._decoded: OrderedDict[str, DeviceProfile] = OrderedDict()
        """The latest decoded last; one goes for each that comes."""

    def __len__(self) -> int:
        """Return how many profiles are kept decoded; at most ``CACHE``."""
        return len(self._decoded)

    def on_profiles(self, partition: Partition, records: list[ConsumerRecord], step: Step) -> None:
        """Keep the newest profile of each device; one that can never work is dead-lettered."""
        for record in records:
            key = record.key or b""
            try:
                if record.value is None:
                    device_id = self._forgotten(partition, key)
                else:
                    device_id = self._checked(partition, key, record.value)
            except DecodeError as error:
                self._dead.write(step, record, TOPIC, error.code, str(error))
            except CameraError as error:
                self._dead.write(step, record, TOPIC, error.cause, str(error))
            else:
                step.put(TABLE, key, record.value)
                before = self._decoded.pop(device_id, None)
                if (
                    before is not None
                    and self._changed
                    and self._codec.encode(before) != record.value
                ):
                    self._changed(device_id)

    def _forgotten(self, partition: Partition, key: bytes) -> str:
        """Return the device that a null value deletes."""
        try:
            device_id = key.decode()
        except UnicodeDecodeError:
            reason = "The record's key is no device id: it is not UTF-8."
            raise DecodeError("wrong_key", reason) from None
        check_home(partition, device_id, self._partitions)
        return device_id

    def _checked(self, partition: Partition, key: bytes, value: bytes) -> str:
        profile = self._codec.decode_as(value, DeviceProfile)
        check_home(partition, profile.device_id, self._partitions)
        if profile.device_id.encode() != key:
            raise DecodeError("wrong_key", "The record's key is not its device id.")
        refusal = check_place(profile.latitude, profile.longitude)
        if refusal is not None:
            raise DecodeError(refusal.code, refusal.reason)
        if not profile.removed:
            self._photos.check_profile(profile)
        return profile.device_id

    def find(self, partition: Partition, device_id: str) -> DeviceProfile | None:
        """Return a device's profile; None: there is no such device."""
        try:
            return self._decoded.get(device_id) or self.profile(partition, device_id)
        except CameraError:
            return None

    def profile(self, partition: Partition, device_id: str) -> DeviceProfile:
        """Return a device's profile.

        Raises:
            CameraError: there is no such device. One that was never heard of is worth another
                attempt: its profile may be on its way, as no order holds between topics.

        """
        found = self._decoded.get(device_id)
        if found is not None:
            return found
        value = partition.get(TABLE, device_id.encode())
        found = None if value is None else self._codec.decode_as(value, DeviceProfile)
        if found is None or found.removed:
            raise CameraError(
                "unknown_device",
                f"there is no device {device_id!r}: make it known with "
                f"`shutterwheel device add {device_id} ADDRESS`",
                retry=found is None,
            )
        if len(self._decoded) >= CACHE:
            self._decoded.popitem(last=False)
        self._decoded[device_id] = found
        return found
