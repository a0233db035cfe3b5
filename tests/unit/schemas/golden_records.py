"""The records that the golden files hold: one of every class in RECORDS, every field filled.

``golden/<Name>.<n>.hex`` is such a record as release n of its schema wrote it, header included. The
six that were first are written by hand below. Every other one is :func:`full`: made from the class
itself, so that a new record, or a new field, has its golden value at once; what it then lacks is
the file, and a test says so.
"""

from __future__ import annotations

import types
import typing
import zlib
from typing import get_args, get_type_hints

from schemas.records import (
    RECORDS,
    CaptureCommand,
    CapturePolicy,
    CaptureRequested,
    CaptureResult,
    CaptureTimings,
    DeadLetter,
    DeviceCaptures,
    DeviceProfile,
    EndedCapture,
    ImageRef,
    OpenCapture,
    QualityVerdict,
    Record,
    SchedulePaused,
    ScheduleSpec,
    ScheduleTick,
    ScheduleUpserted,
    TickChange,
    TickSettings,
    Transition,
)

COMMAND = CaptureCommand(
    command_id=118_111_600_640_005_121,
    device_id="camera-7",
    schedule_id="every-5s",
    request_id="",
    epoch=3,
    nominal_ms=1_795_000_000_000,
    scheduled_ms=1_795_000_000_123,
    not_after_ms=1_795_000_060_123,
    capture_timeout_ms=3_000,
    priority=-1,
    issued_at_ms=1_794_999_995_000,
)
TRANSITIONS = (
    Transition("PENDING", "RUNNING", 1_794_999_999_800, 1, "armed", -(2**63)),
    Transition("RUNNING", "SUCCESS", 1_795_000_000_200, 1, "ok", 2**63 - 1),
)
BY_HAND: dict[str, Record] = {
    "CaptureCommand": COMMAND,
    "CaptureResult": CaptureResult(
        command_id=COMMAND.command_id,
        device_id="камера-7",
        schedule_id="every-5s",
        request_id="",
        epoch=3,
        nominal_ms=COMMAND.nominal_ms,
        scheduled_ms=COMMAND.scheduled_ms,
        state="SUCCESS",
        cause="ok",
        attempt=1,
        ended_at_ms=1_795_000_000_200,
        shutter_at_ms=COMMAND.scheduled_ms,
        image=ImageRef(
            *("file:///blobs/7.jpg", "0f" * 32, 84_123, 1_920, 1_080, "jpeg"),
            beside={"thumbnail.jpg": "1e" * 32},
        ),
        timings=CaptureTimings(45.25, 3.5),
        transitions=TRANSITIONS,
        verdict=QualityVerdict("0f" * 6, ("blur",), {"blur": 0.75}, "", "CPUExecutionProvider"),
    ),
    "ScheduleTick": ScheduleTick(
        partition=3,
        partitions=8,
        time_ms=1_795_000_000_000,
        rules_version=1,
        tz_version="2026b",
        settings=TickSettings(),
        changes=(
            TickChange(
                offset=41,
                event=ScheduleUpserted(
                    "r1", "camera-7", "s", ScheduleSpec("interval", 5_000), CapturePolicy(), 17
                ),
            ),
            TickChange(42, SchedulePaused("r2", "camera-7", "s", "lens is wet", 18)),
            TickChange(43, CaptureRequested("r3", "camera-7", None, CapturePolicy(), 19)),
        ),
    ),
    "DeviceCaptures": DeviceCaptures(
        "camera-7",
        open=(OpenCapture(COMMAND, "RUNNING", 1, 0, TRANSITIONS[:1]),),
        ended=(EndedCapture(5, "s", 2, 10, 11, "EXPIRED", 12, 13),),
    ),
    "DeviceProfile": DeviceProfile(
        "camera-7", "http://127.0.0.1:8080/", "http-json", labels={"row": "4", "crop": "rye"}
    ),
    "DeadLetter": DeadLetter(
        "schedule.events", 3, 7, 1_795_000_000_000, None, b"\x00\xff", "not_avro", "?", "wheel", 9
    ),
}


def full(hint: object, name: str) -> object:
    """Return a value of a type as the records use them: not its default, nothing empty or null."""
    if isinstance(hint, type) and issubclass(hint, Record):
        hints = get_type_hints(hint)
        return hint(**{field: full(of, f"{name}.{field}") for field, of in hints.items()})
    if typing.get_origin(hint) is types.UnionType:
        return full(next(one for one in get_args(hint) if one is not types.NoneType), name)
    if typing.get_origin(hint) is tuple:
        return tuple(full(get_args(hint)[0], f"{name}[{n}]") for n in range(2))
    if typing.get_origin(hint) is dict:
        return {f"key {n} ключ": full(get_args(hint)[1], f"{name}[{n}]") for n in range(2)}
    number = zlib.crc32(name.encode())
    if hint is int:
        if name.endswith("_ms"):
            return 1_795_000_000_000 + number % 1_000_000
        return (-1) ** number * number << number % 32  # of any length up to 64 bits
    if hint is float:
        return number / 1_024
    if hint is bool:
        return True
    if hint is bytes:
        return b"\x00\xff" + name.encode()
    assert hint is str, hint
    return f"{name} 漢字 😀"


GOLDEN: dict[str, Record] = {
    cls.__name__: BY_HAND.get(cls.__name__) or full(cls, cls.__name__)  # type: ignore[misc]
    for cls in RECORDS
}
