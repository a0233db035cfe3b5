"""``shutterwheel device check``: how a device is spoken to, and which way its photo comes."""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from schemas.errors import UsageError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from connectors.cameras.base import Frame
    from connectors.cameras.ways import Known
    from schemas.records import CaptureCommand, DeviceProfile

EPILOG = """
Examples:

  shutterwheel device check cam-1

  shutterwheel device check cam-1 --photo cam-1.jpg

  shutterwheel device check new http://10.0.0.7/ --credentials env:CAMERA_GATE

  shutterwheel device check new rtsp://10.9.0.7/ch1 --allow 10.9.0.0/16 --json
"""


def register(group: typer.Typer) -> None:
    """Add the command to the group ``device``."""
    group.command("check", epilog=EPILOG)(check)


def check(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the device.")],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Of a device that is not known yet.")
    ] = "",
    protocol: Annotated[str, typer.Option(help="With ADDRESS; auto finds it out.")] = "auto",
    credentials: Annotated[
        str, typer.Option(metavar="REF", help="With ADDRESS: env:CAMERA_NAME or file:NAME.")
    ] = "",
    photo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Open the shutter, and write the picture.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Network (CIDR) whose cameras may be contacted; may be repeated."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long it may take.", min=0.1, max=60)] = 10.0,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Ask a device, from this machine, how it is spoken to; without --photo no shutter opens.

    Shows its protocol, its login, how far its clock is off, and every way to a photo, the best
    first. Credentials are looked for here as workers look for them where they run.
    """
    from shutterwheel.show import write_json, write_table

    if address:
        from connectors.clients import events

        profile = events.profile(device_id, address, protocol=protocol, credentials=credentials)
        events.check_profile(profile)
    else:
        profile = _read(device_id, kafka, namespace, data, registry)
    known, frame, timings = asyncio.run(_ask(profile, tuple(allow or ()), seconds, photo))
    if photo is not None and frame is not None:
        photo.write_bytes(frame.data)
    lines = _lines(profile, known, frame, timings)
    if as_json:
        write_json(lines)
    else:
        write_table(("what", "found"), _shown(lines), "Nothing is known of it.")


def _read(
    device_id: str,
    kafka: str | None,
    namespace: str | None,
    data: Path | None,
    registry: str | None,
) -> DeviceProfile:
    from shutterwheel.commands.device import UnknownDeviceError
    from shutterwheel.inventory import read_profiles

    found = read_profiles(find_cluster(kafka, namespace, data, registry), device_id)
    if not found:
        raise UnknownDeviceError(f"There is no device {device_id!r}.")
    return found[0]


async def _ask(
    profile: DeviceProfile, allow: tuple[str, ...], seconds: float, photo: Path | None
) -> tuple[Known | None, Frame | None, dict[str, float]]:
    """Learn the device and, if it is wanted, take a photo; say how long each took."""
    from connectors.cameras import Cameras, CameraSettings

    try:
        settings = CameraSettings(allowed_networks=allow) if allow else CameraSettings()
        cameras = Cameras(settings)
    except ValueError as error:
        raise UsageError(f"--allow: {error}") from None
    clock = asyncio.get_running_loop().time
    timings: dict[str, float] = {}
    frame: Frame | None = None
    async with cameras:
        start_s = clock()
        await cameras.prepare(profile, deadline_s=start_s + seconds)
        timings["prepared_ms"] = (clock() - start_s) * 1e3
        if photo is not None:
            start_s = clock()
            frame = await cameras.capture(profile, _command(profile), deadline_s=start_s + seconds)
            timings["photo_ms"] = (clock() - start_s) * 1e3
        return cameras.known(profile), frame, timings


def _command(profile: DeviceProfile) -> CaptureCommand:
    """Return what stands for a command: all that adapters look at, and no topic ever sees it.

    A real one is made by the wheel alone. The photo is wanted as the camera gives it.
    """
    stand_in = SimpleNamespace(command_id=0, device_id=profile.device_id, image="")
    return cast("CaptureCommand", stand_in)


def _lines(
    profile: DeviceProfile, known: Known | None, frame: Frame | None, timings: dict[str, float]
) -> dict[str, Any]:
    lines: dict[str, Any] = {"device": profile.device_id}
    if known is None:
        lines["protocol"] = "shows with the first photo only"
    else:
        lines |= {"protocol": known.protocol, "address": known.address}
        if known.ways:
            lines |= {"way": known.way, "ways": list(known.ways), "login": known.login}
        if known.skew_ms is not None:
            lines |= {"clock_ahead_ms": known.skew_ms, "clock_by": known.clock}
    if frame is not None:
        lines |= {
            "width_px": frame.width_px,
            "height_px": frame.height_px,
            "image_bytes": len(frame.data),
            "sha256": frame.sha256,
        }
    return lines | {name: round(value, 1) for name, value in timings.items()}


def _shown(lines: dict[str, Any]) -> list[tuple[str, object]]:
    """Return the lines for a table: a list stands in one cell."""
    return [
        (name, ", ".join(value) if isinstance(value, list) else value)
        for name, value in lines.items()
    ]
