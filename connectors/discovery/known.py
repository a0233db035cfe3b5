"""What a search means for the devices that are known: new, the same, or changed in what. Pure.

An operator's word stands. Of a known device only this changes: where it is (its host moved), what
is empty and was found or given now (model, site, credentials, labels), and the labels that are
discovery's own (``discovered.…``). Address and protocol of a device at the same host stay, because
somebody may have chosen them.

A found device is a known one by the same score that merges sightings, with one difference: between
two searches a device may have got another address and another endpoint reference, so these speak
for it but not against it. An equal URL settles it, and so does the id discovery would give at the
same host: somebody may have written the profile anew since, without our labels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import msgspec
from yarl import URL

from connectors.discovery.base import mac_of, serial_of
from connectors.discovery.identify import PREFIX, Device
from connectors.discovery.merge import THRESHOLD, Evidence, Weights, score

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from schemas.records import DeviceProfile

BETWEEN_SEARCHES: Final = Weights(uuid_differs=0, host_differs=0)
SAME_URL: Final = 1_000
SAME_ID: Final = 900
"""The id that discovery gives, at the host where it was: whoever wrote the profile since."""
State = Literal["new", "changed", "same"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator gives for the devices that are added."""

    site: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    credentials_ref: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of one device."""

    state: State
    device: Device
    profile: DeviceProfile
    """As it would be published, or as it is."""
    changes: tuple[str, ...] = ()
    """What changes, in words: ``address http://… → http://…``."""
    kept: tuple[str, ...] = ()
    """What was asked for and does not change, as the operator's earlier word stands."""


def reconcile(
    devices: Sequence[Device], known: Sequence[DeviceProfile], wish: Wish, at_ms: int
) -> tuple[Outcome, ...]:
    """Return what becomes of each found device, in their order; each known one is met once."""
    partners = _pair(devices, known)
    taken = {profile.device_id for profile in known}
    outcomes: list[Outcome] = []
    for number, device in enumerate(devices):
        if number in partners:
            outcomes.append(_update(device, known[partners[number]], wish, at_ms))
            continue
        device_id = _free_id(device, taken)
        taken.add(device_id)
        new = replace(device, device_id=device_id)
        profile = new.profile(
            site=wish.site,
            labels=dict(wish.labels),
            credentials_ref=wish.credentials_ref,
            updated_at_ms=at_ms,
        )
        outcomes.append(Outcome("new", new, profile))
    return tuple(outcomes)


def counts(outcomes: Iterable[Outcome]) -> Mapping[State, int]:
    """Return how many there are of each state."""
    return Counter(one.state for one in outcomes)


def evidence_of(profile: DeviceProfile) -> Evidence:
    """Return the keys of a known device: its address, and the labels discovery gave it."""
    host, port = "", 0
    try:
        url = URL(profile.address)
        host, port = url.host or "", url.port or 0
    except ValueError:
        pass
    labels = profile.labels
    channel = labels.get(f"{PREFIX}channel", "")
    mac, serial = mac_of(labels.get(f"{PREFIX}mac", "")), labels.get(f"{PREFIX}serial", "")
    uuid = labels.get(f"{PREFIX}uuid", "")
    return Evidence(
        frozenset({int(channel) if channel.isascii() and channel.isdigit() else 0}),
        frozenset({mac} if mac else ()),
        frozenset({uuid} if uuid else ()),
        frozenset({serial.lower()} if serial_of(serial) else ()),
        frozenset(),  # what a profile calls its model has the make in it
        frozenset({(host, port)} if host and port else ()),
        frozenset({host} if host else ()),
    )


def _pair(devices: Sequence[Device], known: Sequence[DeviceProfile]) -> dict[int, int]:
    """Return which known device each found one is, the best scores first."""
    index: dict[object, set[int]] = {}
    evidence = [evidence_of(profile) for profile in known]
    for number, profile in enumerate(known):
        for key in (*_keys(evidence[number]), profile.address):
            index.setdefault(key, set()).add(number)
    scored: list[tuple[int, int, int]] = []
    for number, device in enumerate(devices):
        found = device.evidence
        if device.mac:  # the one by ARP, too
            found = found | Evidence(found.channels, frozenset({device.mac}))
        candidates = {
            other for key in (*_keys(found), device.address) for other in index.get(key, ())
        }
        for other in candidates:
            points = score(found, evidence[other], BETWEEN_SEARCHES)
            if known[other].address == device.address:
                points = SAME_URL
            elif known[other].device_id == device.device_id and found.hosts & evidence[other].hosts:
                points = SAME_ID
            if points >= THRESHOLD:
                scored.append((-points, number, other))
    partners: dict[int, int] = {}
    met: set[int] = set()
    for _, number, other in sorted(scored):
        if number not in partners and other not in met:
            partners[number] = other
            met.add(other)
    return partners


def _keys(evidence: Evidence) -> list[object]:
    found: list[object] = [*evidence.macs, *evidence.uuids, *evidence.hosts]
    return [*found, *(("serial", serial) for serial in evidence.serials)]


def _free_id(device: Device, taken: set[str]) -> str:
    """Return the device's id, or one that says its host if another device has that."""
    if device.device_id not in taken:
        return device.device_id
    found = f"{device.device_id}-{device.host}"
    number = 1
    while found in taken:
        number += 1
        found = f"{device.device_id}-{device.host}-{number}"
    return found


def _update(device: Device, known: DeviceProfile, wish: Wish, at_ms: int) -> Outcome:
    """Return a known device with what may change of it."""
    fresh = device.profile()
    changes: dict[str, object] = {}
    kept: list[str] = []
    moved = _moved(known.address, device.host)
    if moved is not None:
        changes["address"] = moved
    for name, value in (
        ("model", fresh.model),
        ("site", wish.site),
        ("credentials_ref", wish.credentials_ref),
    ):
        before = getattr(known, name)
        if value and not before:
            changes[name] = value
        elif value and before != value and name != "model":
            kept.append(f"{name} {before}")
    labels = dict(known.labels)
    labels.update({key: value for key, value in fresh.labels.items() if key.startswith(PREFIX)})
    for key, value in wish.labels:
        if labels.setdefault(key, value) != value:
            kept.append(f"label {key}={labels[key]}")
    said = [
        f"{name} {getattr(known, name) or '(none)'} → {value}" for name, value in changes.items()
    ]
    if labels != known.labels:
        changes["labels"] = labels
        said += [
            f"label {key} {known.labels.get(key, '(none)')} → {value}"
            for key, value in sorted(labels.items())
            if known.labels.get(key) != value
        ]
    device = replace(device, device_id=known.device_id)
    if not changes:
        return Outcome("same", device, known, kept=tuple(kept))
    profile = msgspec.structs.replace(known, **changes, updated_at_ms=at_ms)
    return Outcome("changed", device, profile, tuple(said), tuple(kept))


def _moved(address: str, host: str) -> str | None:
    """Return an address at the device's new host; None: it is where it was, or under a name."""
    try:
        url = URL(address)
    except ValueError:
        return None
    old = url.host or ""
    if old == host or not old.replace(".", "").isdigit():
        return None
    return str(url.with_host(host))
