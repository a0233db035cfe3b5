"""``shutterwheel discover``: which cameras there are on the network, and adding them."""

from __future__ import annotations

import asyncio
import time
from contextlib import nullcontext
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ShutterwheelError, UsageError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectors.discovery.base import Scope
    from connectors.discovery.identify import Survey
    from connectors.discovery.known import Outcome, Wish
    from connectors.discovery.search import Search
    from schemas.records import DeviceProfile
    from shutterwheel.context import Cluster

LOOK_S = 0.25
"""How often the live view is drawn."""
LOOK_AT_LEAST_S = 2.0
"""... where merging takes long, as of thousands of devices."""
MAX_TIMEOUT_S, MAX_HOSTS = 120.0, 1_024
ACKNOWLEDGE_S = 30.0
INTERRUPTED = 130


class SearchFailedError(ShutterwheelError):
    """No source could search at all."""

    advice = "Check that an interface is up (`ip address`), or name one with --interface."


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "discover",
        epilog="""
Examples:

  shutterwheel discover

  shutterwheel discover --interface eth1 --timeout 10s --ignored

  shutterwheel discover --add --site plant-7 --label line=3 --credentials-ref env:CAMERA_PLANT

  shutterwheel discover --host 10.20.0.7 --json | jq -r 'select(.profile) | .profile.address'
""",
    )(discover)


Interfaces = Annotated[
    list[str] | None,
    typer.Option(
        "--interface",
        metavar="NAME",
        help="Interface, or its IPv4 address; may be repeated. Default: all.",
    ),
]
Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="IPv4 address that is asked by itself, for where multicast does not reach; may be "
        "repeated.",
    ),
]
Timeout = Annotated[
    str, typer.Option(metavar="DURATION", help="How long answers are awaited, 1s to 2m.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="NETWORK",
        help="Network (CIDR) whose devices count; may be repeated. Default: private networks.",
    ),
]
Add = Annotated[
    bool,
    typer.Option(
        "--add",
        help="Publish what was found to device.profiles. A device that is known keeps its id, "
        "labels, site, credentials and way of being spoken to.",
    ),
]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be repeated.")
]
Credentials = Annotated[
    str,
    typer.Option(
        "--credentials-ref",
        "--credentials",
        metavar="REF",
        help="Where workers find the devices' credentials: env:CAMERA_NAME or file:NAME. "
        "Whoever answers as a camera will be sent them: use it on networks you trust.",
    ),
]
Others = Annotated[
    bool, typer.Option("--ignored", help="Show what answered and is no camera, and why.")
]


def discover(
    interface: Interfaces = None,
    host: Hosts = None,
    timeout: Timeout = "5s",
    allow: Allow = None,
    add: Add = False,
    site: Annotated[str, typer.Option(help="Where the devices stand.")] = "",
    label: Labels = None,
    credentials: Credentials = "",
    show_ignored: Others = False,
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Find the cameras of the network: mDNS, SSDP, WS-Discovery and makers' broadcasts at once.

    Needs no cluster unless --add is given. Exit code: 0 cameras were found, 1 none was (or one
    could not be added), 2 wrong use, 130 Ctrl-C: what was found is shown, nothing is added.
    """
    from connectors.discovery.search import Search, all_sources
    from shutterwheel.show import say

    wish = _wish(site, label or [], credentials)
    scope = _scope(interface or [], host or [], timeout, tuple(allow or ()))
    # Asked before the search: nobody likes to wait for a mistake.
    cluster = find_cluster(kafka, namespace, data, registry) if add else None
    known = _known(cluster) if cluster is not None else []
    search = Search(scope, all_sources())
    interrupted = False
    try:
        asyncio.run(_run(search, quiet=as_json))
    except KeyboardInterrupt:
        interrupted = True
    found = search.survey()
    _tell_failures(search)
    outcomes = _outcomes(found, known, wish)
    refused: list[str] = []
    if cluster is not None and not interrupted:
        refused = _publish(cluster, outcomes)
    _show(search, found, outcomes, as_json=as_json, ignored=show_ignored, compared=add)
    for line in refused:
        say(line)
    if interrupted:
        say("interrupted: nothing was added" if add else "interrupted")
        raise typer.Exit(INTERRUPTED)
    if refused or not outcomes:
        raise typer.Exit(1)


def _tell_failures(search: Search) -> None:
    """Say which sources could not search; SearchFailedError if none could."""
    from shutterwheel.show import say

    failed = {name: tally.failed for name, tally in search.tallies.items() if tally.failed}
    for name, why in failed.items():
        say(f"note: {name} could not be asked: {why}")
    if len(failed) == len(search.sources):
        raise SearchFailedError("None of the ways of searching worked.")


async def _run(search: Search, *, quiet: bool) -> None:
    """Search to the end, with a live view where there is a terminal."""
    from rich.live import Live

    from shutterwheel.show import console, say

    out = console(stderr=True)
    shown = out.is_terminal and not quiet
    if not shown and not quiet:
        say(_where(search.scope))
    live = Live(console=out, auto_refresh=False, transient=True) if shown else nullcontext()
    with live as view:
        looking = asyncio.create_task(_look(search, view)) if view is not None else None
        try:
            async for _ in search.run():
                pass
        finally:
            if looking is not None:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)


async def _look(search: Search, view: Any) -> None:
    """Draw the live view until cancelled, less often where the drawing takes long."""
    from shutterwheel.show import table

    began_s = time.monotonic()
    while True:
        counts = "  ".join(
            f"{name} {tally.sightings}{'' if not tally.done else '.'}"
            for name, tally in search.tallies.items()
        )
        at_s = time.monotonic()
        # In a thread: what answers meanwhile is read, not dropped.
        survey = await asyncio.to_thread(search.survey)
        took_s = time.monotonic() - at_s
        title = (
            f"{at_s - began_s:3.0f} of {search.scope.timeout_s:g} s   {counts}   "
            f"{len(survey.devices)} cameras, {len(survey.ignored)} others. Ctrl-C ends."
        )
        rows = [
            (one.device_id, one.protocol, one.address, one.model)
            for one in survey.devices[-max(5, view.console.height - 6) :]
        ]
        view.update(table(("device", "protocol", "address", "model"), rows, title), refresh=True)
        await asyncio.sleep(min(LOOK_AT_LEAST_S, max(LOOK_S, 4 * took_s)))


def _scope(interfaces: list[str], hosts: list[str], timeout: str, allow: tuple[str, ...]) -> Scope:
    """Return where is searched, from the options; UsageError for what cannot be."""
    from connectors.cameras.base import PRIVATE_NETWORKS
    from connectors.cameras.policy import AddressPolicy
    from connectors.clients.values import duration_ms
    from connectors.discovery.base import Scope
    from connectors.discovery.interfaces import choose

    timeout_s = duration_ms(timeout, "--timeout") / 1_000
    if not 1.0 <= timeout_s <= MAX_TIMEOUT_S:
        raise UsageError(f"--timeout {timeout}: expected 1s to {MAX_TIMEOUT_S:g}s.")
    try:
        policy = AddressPolicy(allow or PRIVATE_NETWORKS)
    except ValueError as error:
        raise UsageError(f"--allow: {error}; expected a network such as 10.20.0.0/16.") from None
    if len(hosts) > MAX_HOSTS:
        raise UsageError(f"--host is given {len(hosts)} times; {MAX_HOSTS} are the most.")
    for one in hosts:
        try:
            address = str(IPv4Address(one))
        except AddressValueError:
            raise UsageError(f"--host {one!r} is no IPv4 address.") from None
        if not policy.permits(address):
            raise UsageError(f"--host {one} is outside the networks that count; see --allow.")
    # Hosts alone are asked alone.
    chosen = () if hosts and not interfaces else choose(interfaces)
    return Scope(chosen, timeout_s, tuple(dict.fromkeys(hosts)), policy)


def _wish(site: str, labels: list[str], credentials: str) -> Wish:
    from connectors.clients import events
    from connectors.discovery.identify import PREFIX
    from connectors.discovery.known import Wish
    from shutterwheel.commands.device import labels_of

    given = labels_of(labels)
    for key in given:
        if key.startswith(PREFIX):
            raise UsageError(f"--label {key}: labels that begin with {PREFIX} are discovery's own.")
    # The reference is checked as `device add` checks it, before anything is searched.
    events.check_profile(
        events.profile("any", "http://127.0.0.1/", credentials=credentials, labels=given)
    )
    return Wish(site, tuple(sorted(given.items())), credentials)


def _known(cluster: Cluster) -> list[DeviceProfile]:
    from shutterwheel.inventory import read_profiles

    return read_profiles(cluster)


def _outcomes(found: Survey, known: Sequence[DeviceProfile], wish: Wish) -> tuple[Outcome, ...]:
    from connectors.clients.events import now_ms
    from connectors.discovery.known import reconcile

    return reconcile(found.devices, known, wish, now_ms())


def _publish(cluster: Cluster, outcomes: Sequence[Outcome]) -> list[str]:
    """Publish what is new or has changed; return a line for each that cannot be."""
    from connectors.clients import events
    from connectors.clients.publisher import Publisher

    refused: list[str] = []
    with Publisher(cluster.kafka, cluster.namespace, registry=cluster.registry) as publisher:
        receipts = []
        for one in outcomes:
            if one.state == "same":
                continue
            try:
                events.check_profile(one.profile)
            except UsageError as error:
                refused.append(f"{one.profile.device_id} was not added: {error}")
                continue
            receipts.append(publisher.device(one.profile))
        for receipt in receipts:
            receipt.acknowledged(ACKNOWLEDGE_S)
    return refused


def _show(
    search: Search,
    found: Survey,
    outcomes: Sequence[Outcome],
    *,
    as_json: bool,
    ignored: bool,
    compared: bool,
) -> None:
    """Write what was found; ``compared``: with what that means for the devices known."""
    import msgspec

    from shutterwheel.show import plain, say, write_json, write_table

    if as_json:
        for one in outcomes:
            write_json(
                {
                    "record": "Discovered",
                    "state": one.state if compared else "found",
                    "profile": plain(one.profile),
                    "host": one.device.host,
                    "name": one.device.name,
                    "kind": one.device.kind,
                    "why": one.device.why,
                    "seen_by": one.device.seen_by,
                    "changes": one.changes,
                    "kept": one.kept,
                }
            )
        for other in found.ignored:
            write_json({"record": "Ignored", **msgspec.to_builtins(other)})
        write_json({"record": "Searched", "sources": msgspec.to_builtins(search.tallies)})
        return
    columns = ("device", "protocol", "address", "model", "seen by")
    rows = [
        (
            one.profile.device_id,
            one.profile.protocol,
            one.profile.address,
            one.profile.model,
            " ".join(one.device.seen_by),
            *((one.state,) if compared else ()),
        )
        for one in outcomes
    ]
    write_table(
        (*columns, "state") if compared else columns,
        rows,
        f"No camera answered. {_where(search.scope)}; try a longer --timeout, another "
        "--interface, or --host for where multicast does not reach.",
    )
    for one in outcomes if compared else ():
        for change in one.changes:
            say(f"{one.profile.device_id}: {change}")
        for kept in one.kept:
            say(f"{one.profile.device_id}: kept {kept}")
    _tell_rest(search, found, ignored=ignored)


def _tell_rest(search: Search, found: Survey, *, ignored: bool) -> None:
    """Say what else answered, and what was not believed."""
    from connectors.discovery.base import REFUSALS
    from shutterwheel.show import say

    if ignored:
        for other in found.ignored:
            by = " ".join(other.seen_by)
            say(f"ignored: {other.host} {other.name or '(no name)'} ({by}): {other.reason}")
    elif found.ignored:
        say(f"{len(found.ignored)} others answered; --ignored shows them, and why they are none")
    for name, tally in search.tallies.items():
        for word, count in sorted(tally.refused.items()):
            say(f"note: {name}: {count} answers not believed: {REFUSALS[word]}")


def _where(scope: Scope) -> str:
    places = [f"{one.name} ({one.address})" for one in scope.interfaces] + list(scope.hosts)
    return f"searching {', '.join(places[:8])} for {scope.timeout_s:g} s"
