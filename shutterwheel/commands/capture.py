"""``shutterwheel capture``: one photo now or at a time, and where a capture stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from schemas.errors import ShutterwheelError, UsageError
from shutterwheel.context import AsJson, DataDir, Kafka, Namespace, Registry, find_cluster

if TYPE_CHECKING:
    from connectors.clients.captures import Found
    from connectors.clients.decisions import Answer
    from connectors.clients.results import Results
    from schemas.records import CaptureRequested, CaptureResult, Transition
    from shutterwheel.context import Cluster

group = typer.Typer(no_args_is_help=True, help="Single captures: request, show.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(group, name="capture")


class UnknownCaptureError(ShutterwheelError):
    """There is no such capture."""


@group.command(
    "request",
    epilog="""
Examples:

  shutterwheel capture request cam-1 --wait

  shutterwheel capture request cam-1 --at 2026-12-01T08:00:00+01:00

  shutterwheel capture request cam-1 --at +30s --wait
""",
)
def request(
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="Id of the device.")],
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="ISO 8601 with its zone, or +30s; default: now."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the decision, and then for the photo.")
    ] = False,
    timeout: Annotated[
        str, typer.Option(metavar="DURATION", help="How long to wait beyond the time.")
    ] = "30s",
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Ask for one photo. With --wait the exit code is 0 only if there is one."""
    from connectors.clients.events import now_ms, requested
    from connectors.clients.values import duration_ms

    at_ms = _at_ms(at)
    wait_s = (duration_ms(timeout, "--timeout") + max(0, (at_ms or 0) - now_ms())) / 1_000
    cluster = find_cluster(kafka, namespace, data, registry)
    ask(cluster, requested(device, at_ms), wait_s if wait else None, as_json=as_json)


def ask(cluster: Cluster, event: CaptureRequested, wait_s: float | None, *, as_json: bool) -> None:
    """Ask for a photo and show what becomes of it; ``wait_s`` null: that it was asked for.

    Ends with exit code 1 if there is no photo.
    """
    from connectors.clients.publisher import Publisher
    from connectors.clients.results import results
    from shutterwheel.show import plain, write_json

    device = event.device_id
    with Publisher(cluster.kafka, cluster.namespace, registry=cluster.registry) as publisher:
        if wait_s is None:
            receipt = publisher.publish(event, repeated=False).acknowledged()
            if as_json:
                write_json({"device_id": device, "request_id": receipt.request_id})
            else:
                typer.echo(f"requested, as {receipt.request_id}; --wait shows what becomes of it")
            return
        # The reader stands at the topic's end before the request is out: its result lies behind.
        with results(
            cluster.kafka,
            namespace=cluster.namespace,
            device=device,
            registry=cluster.registry,
        ) as photos:
            receipt = publisher.publish(event, repeated=False)
            answer = receipt.decision()
            _go_on(answer, as_json=as_json)
            result = _photo(photos, receipt.request_id, wait_s)
    if as_json:
        write_json(plain(result))
    else:
        _print_result(result)
    if result.state != "SUCCESS":
        raise typer.Exit(1)


def _at_ms(at: str | None) -> int | None:
    from connectors.clients.events import now_ms
    from connectors.clients.values import duration_ms, moment_ms

    if at is None:
        return None
    if at.startswith("+"):
        return now_ms() + duration_ms(at[1:], "--at")
    return moment_ms(at, "--at")


def _go_on(answer: Answer, *, as_json: bool) -> None:
    from schemas.records import Refused
    from shutterwheel.commands.schedule import refuse_if_refused
    from shutterwheel.show import plain, say, write_json

    if isinstance(answer, Refused):
        if as_json:
            write_json(plain(answer))
        refuse_if_refused(answer, quiet=as_json)
    elif not as_json and answer.command_id is not None:
        say(f"accepted as capture {answer.command_id}")


def _photo(photos: Results, request_id: str, timeout_s: float) -> CaptureResult:
    """Return the result of a request; other results of the device pass by."""
    import time

    deadline_s = time.monotonic() + timeout_s
    while True:
        result = photos.next(max(0.0, deadline_s - time.monotonic()))
        if result.request_id == request_id:
            return result


@group.command(
    "show",
    epilog="""
Examples:

  shutterwheel capture show 117935296434176000

  shutterwheel capture show 117935296434176000 --json
""",
)
def show(
    command_id: Annotated[int, typer.Argument(metavar="ID", help="Id of the command.")],
    kafka: Kafka = None,
    namespace: Namespace = None,
    data: DataDir = None,
    registry: Registry = None,
    as_json: AsJson = False,
) -> None:
    """Show where a capture stands: its command, its transitions, and whether each is sound.

    An open capture is asked of its worker, which answers after all it wrote is committed. The exit
    code is 1 if it is unknown or a transition is damaged.
    """
    from connectors.clients.captures import ask_workers
    from schemas.records import EndedCapture
    from shutterwheel.show import plain, write_json

    if not 0 < command_id < 1 << 63:
        raise UsageError(f"{command_id} is no capture's id; they have 63 bits.")
    cluster = find_cluster(kafka, namespace, data, registry)
    urls = [one.url for one in cluster.run.workers if one.app == "captures"] if cluster.run else []
    found = ask_workers(urls, command_id)
    if found is None or isinstance(found.state, EndedCapture):
        # What has ended has its whole history in its result.
        found = _search(cluster, command_id) or found
    if found is None:
        raise UnknownCaptureError(
            f"No capture {command_id} is known: neither a worker nor capture.results nor "
            "capture.commands has it. Check the id, and the namespace."
        )
    faults = _faults(found)
    if as_json:
        write_json({**plain(found.state), "source": found.source, "faults": list(faults)})
    else:
        _print_found(found, faults)
    if faults:
        raise typer.Exit(1)


def _search(cluster: Cluster, command_id: int) -> Found | None:
    from connectors.clients.captures import search_topics
    from connectors.clients.kafka import make_codec
    from connectors.clients.scan import Scanner

    codec = make_codec(cluster.registry)
    with Scanner(cluster.kafka, codec) as scanner:
        return search_topics(scanner, codec, cluster.namespace, command_id)


def _faults(found: Found) -> tuple[str, ...]:
    from schemas.records import CaptureResult, OpenCapture
    from streams.core.transition import verify

    state = found.state
    return verify(state) if isinstance(state, OpenCapture | CaptureResult) else ()


def _print_found(found: Found, faults: tuple[str, ...]) -> None:
    from schemas.records import CaptureCommand, CaptureResult, EndedCapture, OpenCapture
    from shutterwheel.show import clean

    state = found.state
    if isinstance(state, CaptureResult):
        _print_result(state)
    elif isinstance(state, OpenCapture):
        _print_facts(_of_command(state.command, state.state))
        _print_transitions(state.command.command_id, state.transitions)
    elif isinstance(state, CaptureCommand):
        _print_facts(_of_command(state, "issued; no worker has told of it yet"))
    elif isinstance(state, EndedCapture):
        _print_facts({"capture": state.command_id, "state": state.state})
    typer.echo(f"from         {clean(found.source)}")
    for fault in faults:
        typer.echo(f"damaged: {fault}", err=True)


def _of_command(command: Any, state: str) -> dict[str, object]:
    """Return the facts that a command and a result share."""
    from connectors.clients.values import show_moment
    from streams.core.ids import command_shard

    return {
        "capture": command.command_id,
        "state": state,
        "device": command.device_id,
        "schedule": command.schedule_id or f"(request {command.request_id})",
        "epoch": command.epoch,
        "shard": command_shard(command.command_id),
        "scheduled": show_moment(command.scheduled_ms),
    }


def _print_result(result: CaptureResult) -> None:
    from connectors.clients.values import show_moment

    facts = _of_command(result, result.state)
    if result.cause:
        facts["cause"] = result.cause
    if result.shutter_at_ms is not None:
        late_ms = result.shutter_at_ms - result.scheduled_ms
        facts["shutter"] = f"{show_moment(result.shutter_at_ms)} ({late_ms} ms late)"
    image = result.image
    if image is not None:
        facts["photo"] = image.uri
        facts["size"] = f"{image.width_px}x{image.height_px}, {image.image_bytes:,} bytes"
        facts["sha256"] = image.sha256
        facts |= {f"  {end}": f"sha256 {sha256}" for end, sha256 in image.beside.items()}
    if result.verdict is not None:
        verdict = result.verdict
        scores = ", ".join(f"{name} {score:.2f}" for name, score in verdict.scores.items())
        said = ", ".join(verdict.faults) or verdict.reason or "good"
        ran = f"model {verdict.model} on {verdict.provider or 'what is not known'}"
        facts["quality"] = f"{said} ({scores}; {ran})" if scores else said
    if result.timings is not None:
        took = result.timings
        facts["took"] = f"grab {took.grab_ms:.1f} ms, store {took.store_ms:.1f} ms"
    _print_facts(facts)
    _print_transitions(result.command_id, result.transitions)


def _print_facts(facts: dict[str, object]) -> None:
    from shutterwheel.show import clean

    for name, value in facts.items():
        typer.echo(f"{name:<12} {clean(value)}")


def _print_transitions(command_id: int, transitions: tuple[Transition, ...]) -> None:
    from connectors.clients.values import show_moment
    from shutterwheel.show import write_table
    from streams.core.transition import crc_ok

    write_table(
        ("at", "from", "to", ">attempt", "crc64", "cause"),
        (
            (
                show_moment(one.at_ms),
                one.from_state or "-",
                one.to_state,
                one.attempt,
                "ok" if crc_ok(command_id, one) else "fail",
                one.cause,
            )
            for one in transitions
        ),
        "no transitions",
    )
