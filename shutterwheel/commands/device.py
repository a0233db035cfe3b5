"""``shutterwheel device``: which devices there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ShutterwheelError, UsageError
from shutterwheel.commands import device_check, device_health
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from schemas.records import DeviceProfile

group = typer.Typer(no_args_is_help=True, help="Devices: add, check, list, health, remove.")
device_check.register(group)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    device_health.register(group)
    app.add_typer(group, name="device")


class UnknownDeviceError(ShutterwheelError):
    """There is no such device."""

    advice = "`shutterwheel device list` shows the devices there are."


@group.command(
    "add",
    epilog="""
Examples:

  shutterwheel device add cam-1 http://10.0.0.7/snapshot.jpg

  shutterwheel device add cam-2 http://10.0.0.8/ --protocol http-json --label line=3

  shutterwheel device add cam-3 https://10.0.0.9/snap --credentials env:CAMERA_GATE

  shutterwheel device add cam-5 http://10.0.0.11/ --protocol auto --credentials env:CAMERA_GATE

  shutterwheel device add cam-4 http://10.0.0.10/ --latitude 48.86 --longitude 2.35
""",
)
def add(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the device.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="URL, without credentials.")],
    protocol: Annotated[
        str, typer.Option(help="onvif, rtsp, http-snapshot, http-json; auto: find out.")
    ] = "http-snapshot",
    model: Annotated[str, typer.Option(help="Make and model.")] = "",
    site: Annotated[str, typer.Option(help="Where it stands.")] = "",
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="May be repeated.")
    ] = None,
    credentials: Annotated[
        str,
        typer.Option(
            metavar="REF",
            help="Where workers find them: env:CAMERA_NAME, file:NAME, keyring:NAME.",
        ),
    ] = "",
    latitude: Annotated[
        float | None, typer.Option(help="Degrees north, for schedules that follow the sun.")
    ] = None,
    longitude: Annotated[float | None, typer.Option(help="Degrees east.")] = None,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Make a device known, or change what is known of it."""
    from connectors.clients import events
    from connectors.clients.publisher import Publisher
    from shutterwheel.show import plain, say, write_json

    profile = events.profile(
        device_id,
        address,
        protocol=protocol,
        model=model,
        site=site,
        labels=labels_of(label or []),
        credentials=credentials,
        latitude=latitude,
        longitude=longitude,
    )
    events.check_profile(profile)
    note = _note(profile)
    cluster = find_cluster(kafka, namespace, data, registry)
    with Publisher(cluster.kafka, cluster.namespace, registry=cluster.registry) as publisher:
        publisher.device(profile).acknowledged()
    if note:
        say(f"note: {note}")
    if as_json:
        write_json(plain(profile))
    else:
        typer.echo(f"{device_id} is known, at {_shown(profile).address}")


@group.command(
    "list",
    epilog="""
Examples:

  shutterwheel device list

  shutterwheel device list --json | jq -r .address
""",
)
def list_(
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show the devices there are, and how they are where heartbeats tell of it."""
    from connectors.clients.events import now_ms
    from shutterwheel.inventory import read_profiles
    from shutterwheel.show import plain, write_json, write_table

    cluster = find_cluster(kafka, namespace, data, registry)
    found = [_shown(profile) for profile in read_profiles(cluster)]
    seen = device_health.read_health(cluster).rows if found else {}
    if as_json:
        for one in found:
            row = seen.get(one.device_id)
            write_json({**plain(one), "health": row and device_health.plain_health(row)})
        return
    at_ms = now_ms()
    unknown = ("", "")
    write_table(
        ("device", "state", ">last seen", "protocol", "address", "model", "site", "labels"),
        (
            (
                one.device_id,
                *(device_health.cells(row, at_ms)[:2] if row else unknown),
                one.protocol,
                one.address,
                one.model,
                one.site,
                " ".join(f"{key}={value}" for key, value in sorted(one.labels.items())),
            )
            for one, row in ((one, seen.get(one.device_id)) for one in found)
        ),
        "No device is known; `shutterwheel device add ID ADDRESS` makes one known.",
    )


@group.command(
    "remove",
    epilog="""
Example:

  shutterwheel device remove cam-1
""",
)
def remove(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="Name of the device.")],
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Forget a device. Its schedules stay, and their photos fail, until they are cancelled."""
    from connectors.clients.publisher import Publisher
    from shutterwheel.inventory import read_profiles
    from shutterwheel.show import write_json

    cluster = find_cluster(kafka, namespace, data, registry)
    if not read_profiles(cluster, device_id):
        raise UnknownDeviceError(f"There is no device {device_id!r}.")
    with Publisher(cluster.kafka, cluster.namespace, registry=cluster.registry) as publisher:
        publisher.remove_device(device_id).acknowledged()
    if as_json:
        write_json({"removed": device_id})
    else:
        typer.echo(f"{device_id} is forgotten")


def _shown(profile: DeviceProfile) -> DeviceProfile:
    """Return a profile as it may be shown: somebody may have written a secret into the topic."""
    import msgspec

    from connectors.cameras.credentials import KINDS
    from streams.observability.logs import HIDDEN, scrub_text

    named = profile.credentials_ref.partition(":")[0] in {"", *KINDS}
    return msgspec.structs.replace(
        profile,
        address=scrub_text(profile.address),
        credentials_ref=profile.credentials_ref if named else HIDDEN,
    )


def labels_of(given: list[str]) -> dict[str, str]:
    """Return ``KEY=VALUE`` options as labels; UsageError for what is none."""
    labels: dict[str, str] = {}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"--label {text!r} is no label; expected KEY=VALUE.")
        labels[key.strip()] = value
    return labels


def _note(profile: DeviceProfile) -> str:
    """Return what workers with the usual settings will object to."""
    from connectors.cameras.policy import AddressPolicy, schemes_of
    from schemas.errors import CameraError

    try:
        AddressPolicy().target(profile.address, schemes_of(profile.protocol))
    except CameraError as error:
        return f"{error}; start workers with --allow NETWORK for it"
    return ""
