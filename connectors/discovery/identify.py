"""What each group of sightings is, and the profile of those that are cameras. Pure.

**The id** must be the same at the next search, so it is made of the strongest key that is there and
that no other device of this search has as well::

    mac-b4a38200f1e0           the MAC address, by the device's word, else by ARP
    serial-ds-2cd2042-90071    model and serial number
    epr-4d454930-0000-…        the endpoint reference (cheap cameras make a new one at each start)
    host-10.0.0.7-8080         where it is, if there is nothing else

A channel of a recorder adds ``-ch3``. A device that is known already keeps its id, whatever its
keys are now: see :mod:`connectors.discovery.known`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from connectors.discovery.base import Kind, text_of
from connectors.discovery.merge import Evidence, merge
from schemas.records import DeviceProfile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from connectors.discovery.base import Sighting

PROTOCOLS: Final = ("onvif", "rtsp", "http-snapshot", "http-json", "auto")
"""Ways to speak to a device, best first: ONVIF tells the other ones."""
PREFIX: Final = "discovered."
"""Labels that discovery keeps for itself; all others are the operator's."""


@dataclass(frozen=True, slots=True)
class Device:
    """One camera, or one channel of a recorder, and what was seen of it."""

    device_id: str
    address: str
    protocol: str
    host: str
    mac: str = ""
    serial: str = ""
    uuid: str = ""
    maker: str = ""
    model: str = ""
    name: str = ""
    channel: int = 0
    kind: Kind = "camera"
    why: str = ""
    seen_by: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=lambda: Evidence(frozenset({0})))

    def profile(
        self,
        *,
        site: str = "",
        labels: Mapping[str, str] | None = None,
        credentials_ref: str = "",
        updated_at_ms: int = 0,
    ) -> DeviceProfile:
        """Return the device's profile, with what the operator adds to what was found."""
        own = {
            "mac": self.mac,
            "serial": self.serial,
            "uuid": self.uuid,
            "channel": str(self.channel or ""),
        }
        return DeviceProfile(
            self.device_id,
            self.address,
            self.protocol,
            model=make_and_model(self.maker, self.model),
            site=site,
            labels={
                **{f"{PREFIX}{key}": value for key, value in own.items() if value},
                **(labels or {}),
            },
            credentials_ref=credentials_ref,
            updated_at_ms=updated_at_ms,
        )


@dataclass(frozen=True, slots=True)
class Ignored:
    """What answered and is no camera, or no device of its own."""

    host: str
    name: str
    seen_by: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What a search has found so far."""

    devices: tuple[Device, ...] = ()
    ignored: tuple[Ignored, ...] = ()


def survey(sightings: Iterable[Sighting], neighbours: Mapping[str, str] | None = None) -> Survey:
    """Merge sightings and say what each group is; ``neighbours`` are MAC addresses by ARP."""
    groups = merge(sightings)
    with_channels = {one.host for group in groups for one in group if one.channel}
    cameras: list[tuple[Sighting, ...]] = []
    ignored: list[Ignored] = []
    for group in groups:
        reason = _reason_to_ignore(group, with_channels)
        if reason:
            name = _first(group, "name") or _first(group, "model")
            ignored.append(Ignored(group[0].host, name, _seen_by(group), reason))
        else:
            cameras.append(group)
    keys = _ids(cameras, neighbours or {})
    devices = [
        _device(group, device_id, mac)
        for group, (device_id, mac) in zip(cameras, keys, strict=True)
    ]
    return Survey(tuple(devices), tuple(ignored))


def make_and_model(maker: str, model: str) -> str:
    """Return make and model, the make once."""
    if not maker or model.lower().startswith(maker.lower()):
        return model
    return text_of(f"{maker} {model}")


def kind_of(group: Sequence[Sighting]) -> tuple[Kind, str]:
    """Return what a group is: a word for a camera outweighs those that see none."""
    wanted: tuple[Kind, ...] = ("recorder", "camera", "other", "unknown")
    for kind in wanted:
        for one in group:
            if one.kind == kind:
                return kind, one.why
    return "unknown", ""


def _reason_to_ignore(group: Sequence[Sighting], with_channels: set[str]) -> str:
    """Return why a group is no device of ours; empty: it is one."""
    kind, why = kind_of(group)
    if kind == "recorder" and group[0].host in with_channels:
        return "a recorder; each of its channels is a device"
    if kind in {"camera", "recorder"}:
        return "" if any(_usable(one) for one in group) else f"no address to speak to: {why}"
    return why or "nothing says that it is a camera"


def _usable(one: Sighting) -> bool:
    return one.address != "" and one.protocol in PROTOCOLS


def _device(group: Sequence[Sighting], device_id: str, mac: str) -> Device:
    kind, why = kind_of(group)
    best = min(
        (one for one in group if _usable(one)),
        key=lambda one: (PROTOCOLS.index(one.protocol), group.index(one)),
    )
    evidence = Evidence.of(group[0])
    for one in group[1:]:
        evidence |= Evidence.of(one)
    return Device(
        device_id,
        best.address,
        best.protocol,
        best.host,
        mac=mac,
        serial=_first(group, "serial"),
        uuid=_first([one for one in group if one.uuid.startswith("epr:")] or group, "uuid"),
        maker=_first(group, "maker"),
        model=_first(group, "model"),
        name=_first(group, "name"),
        channel=best.channel,
        kind=kind,
        why=why,
        seen_by=_seen_by(group),
        evidence=evidence,
    )


def _first(group: Sequence[Sighting], name: str) -> str:
    """Return the first value that there is, of cameras' sightings before others'."""
    ordered = sorted(group, key=lambda one: one.kind not in {"camera", "recorder"})
    return next((value for one in ordered if (value := str(getattr(one, name)))), "")


def _seen_by(group: Sequence[Sighting]) -> tuple[str, ...]:
    return tuple(sorted({one.source for one in group}))


def _ids(
    groups: Sequence[Sequence[Sighting]], neighbours: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Return each group's id and MAC address; see this module's text."""
    macs = [_first(group, "mac") for group in groups]
    # What a bridge or a crowded machine shows for many is nobody's.
    by_arp = [neighbours.get(group[0].host, "") for group in groups]
    shared = Counter(
        (own or arp, group[0].channel) for own, arp, group in zip(macs, by_arp, groups, strict=True)
    )
    resolved = [
        own or (arp if shared[arp, group[0].channel] == 1 else "")
        for own, arp, group in zip(macs, by_arp, groups, strict=True)
    ]
    wanted = [
        [one for one in _keys(group, mac) if one]
        for group, mac in zip(groups, resolved, strict=True)
    ]
    holders = Counter(key for keys in wanted for key in set(keys))
    taken: Counter[str] = Counter()
    found: list[tuple[str, str]] = []
    for keys, mac in zip(wanted, resolved, strict=True):
        key = next((key for key in keys if holders[key] == 1), keys[-1])
        taken[key] += 1
        found.append((key if taken[key] == 1 else f"{key}-{taken[key]}", mac))
    return found


def _keys(group: Sequence[Sighting], mac: str) -> list[str]:
    """Return the ids this group could have, the strongest first; the last one always is."""
    channel = f"-ch{group[0].channel}" if group[0].channel else ""
    serial, model = _first(group, "serial"), _first(group, "model")
    epr = next((one.uuid for one in group if one.uuid.startswith("epr:")), "")
    uuid = (epr or _first(group, "uuid")).partition(":")[2]
    place = min((one for one in group if one.port), key=lambda one: one.port, default=group[0])
    return [
        f"mac-{mac}{channel}" if mac else "",
        f"serial-{_slug(model)}-{_slug(serial)}{channel}" if serial and model else "",
        f"epr-{_slug(uuid)}{channel}" if uuid else "",
        f"host-{place.host}-{place.port}{channel}",
    ]


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:64] or "x"
