"""Issue 4, 'Back-pressure and bounds': every queue, overlay and in-flight set has its metric.

All collections that an object of runtime and agents keeps are found in the source. Each is in one
of two lists: those whose size is a metric, and those that cannot grow, with what bounds them. A new
one that is in neither fails here.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from streams.observability.held_metrics import HELD
from streams.observability.metrics import Metrics

ROOT = Path(__file__).parents[3] / "streams"
MADE = {
    *("set", "dict", "list", "deque", "defaultdict", "OrderedDict", "Counter", "array"),
    *("TimerQueue", "Queue", "asyncio.Queue"),
}

EXPORTED = {
    "agents/admission:Admission._seats": "pool_in_use",
    "agents/admission:Admission._busy": "pool_in_use",  # a device a seat
    "agents/admission:Admission._hosts": "pool_in_use",  # at most one a seat
    "agents/admission:Admission._device_lines": "held:device_lines",
    "agents/admission:Admission._host_lines": "held:host_lines",
    "agents/attempts:Attempts._tasks": "in_flight_captures",
    "agents/arming:Arming._timers": "held:arming",
    "agents/capture_executor:CaptureExecutor._shutters": "armed_captures",
    "agents/capture_executor:CaptureExecutor._held": "held:held_back",
    "agents/capture_search:PhotoSearch._again": "held:searched",
    "agents/capture_state:CaptureState._held": "open_captures",
    "agents/capture_state:CaptureState._rows": "held:rows_open",
    "agents/capture_state:CaptureState._idle": "held:rows_idle",
    "agents/capture_state:CaptureState._ended": "held:rows_idle",  # of the same devices and the open
    "agents/completions:Completions._ended": "held:ending",
    "agents/device_loads:DeviceLoads._young": "held:loads",
    "agents/device_loads:DeviceLoads._old": "held:loads",
    "agents/device_profiles:DeviceProfiles._decoded": "held:profiles",
    "agents/preparation:Preparation._tasks": "held:preparing",
    "agents/preparation:Preparation._hosts": "held:preparing",  # at most one a task
    "agents/timing_wheel:TimingWheel._states": "partitions_owned",
    "agents/troubled:Troubled._records": "troubled_devices",
    "runtime/batch:Batch.outputs": "queued_outputs",
    "runtime/batch:Batch.writes": "overlay_rows",
    "runtime/row_cache:RowCache._old": "cached_rows",
    "runtime/row_cache:RowCache._young": "cached_rows",
    "runtime/row_cache:RowCache.generations": "cached_rows",
    "runtime/tenancy:Tenancy.partitions": "partitions_owned",
    "runtime/unwritten:Unwritten._old": "unwritten_rows",
    "runtime/unwritten:Unwritten._young": "unwritten_rows",
    "runtime/unwritten:Unwritten.generations": "unwritten_rows",
}
"""The size of each is this metric, or is never more than it."""

PARTITION = "one a partition, or a few"
FIXED = "set up once"
CANNOT_GROW = {
    "agents/admission:Admission._freed": "emptied before the call returns that filled it",
    "agents/clock_notes:ClockNotes._told": PARTITION,
    "agents/read_ahead:ReadAhead._building": PARTITION,
    "agents/schedule_rows:_Ends._heads": "SHARED_MAX, while a partition is opened",
    "agents/schedule_rows:_Ends._sizes": "SIZES_MAX",
    "agents/schedule_rows:_Ends._tails": "SHARED_MAX, while a partition is opened",
    "agents/snapshots:Snapshots._due_ms": PARTITION,
    "agents/snapshots:Snapshots._file_bytes": PARTITION,
    "agents/snapshots:Snapshots._find_ms": PARTITION,
    "agents/snapshots:Snapshots._last_ms": PARTITION,
    "agents/timers:TimerQueue._heap": "counted by whoever has the queue",
    "runtime/app:ShardApp._loops": FIXED,
    "runtime/app:ShardApp._tasks": FIXED,
    "runtime/batch:Batch.clocked": "one a topic",
    "runtime/batch:Batch.committed": "as many as the steps of a commit: max_batch_records",
    "runtime/batch:Batch.handovers": PARTITION,
    "runtime/batch:Batch.offsets": PARTITION,
    "runtime/batch:Batch.partitions": PARTITION,
    "runtime/batch:Batch.points": "one a partition that makes a snapshot",
    "runtime/brokers:Brokers._connections": "one a broker",
    "runtime/brokers:Brokers._coordinators": "one a group and a transaction",
    "runtime/brokers:Brokers._leaders": PARTITION,
    "runtime/brokers:Brokers._nodes": "one a broker",
    "runtime/brokers:Connection._waiting": "requests of one commit without an answer",
    "runtime/clock:Clock._corrections": "KEPT",
    "runtime/committer:Committer._changelogs": FIXED,
    "runtime/faults:Faults._left": FIXED,
    "runtime/faults:Faults._signals": FIXED,
    "runtime/ntp:NtpSource._rounds": "ROUNDS",
    "runtime/ntp:NtpSource._said": "one a server",
    "runtime/ntp:TimeServer.refused": "one a reason",
    "runtime/partition:Partition._waiting": "one an attempt in flight, and what is held back",
    "runtime/rebalance:RebalanceTimes._at": "MARKS",
    "runtime/record_batches:RecordBatches._next": PARTITION,
    "runtime/record_batches:Round.batches": PARTITION,
    "runtime/recovery:Recovered.handovers": PARTITION,
    "runtime/recovery:Recovery._changelogs": FIXED,
    "runtime/recovery:_Changelog.rows": "WAITING_ROWS and FETCH_BYTES, while it is read",
    "runtime/store:Store._changes": PARTITION,
    "runtime/store:Store._prefixes": PARTITION,
    "runtime/transaction:Committed.changelog_offsets": PARTITION,
    "runtime/transaction:Committed.stages_s": "one a stage",
    "runtime/unwritten:Unwritten._offsets": PARTITION,
}


def collections_of(tree: ast.Module) -> set[str]:
    """Return ``Class.attribute`` of all that begins as a collection without anything in it."""
    found: set[str] = set()
    for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for node in ast.walk(owner):
            match node:
                case ast.AnnAssign(target=target, value=value):
                    pass
                case ast.Assign(targets=[target], value=value):
                    pass
                case _:
                    continue
            name = name_of(target, of_class=node in owner.body)
            if name and value is not None and begins_empty(value):
                found.add(f"{owner.name}.{name}")
    return found


def name_of(target: ast.expr, *, of_class: bool) -> str:
    match target:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
        case ast.Name(id=name) if of_class:
            return name
    return ""


def begins_empty(value: ast.expr) -> bool:
    match value:
        case ast.Dict(keys=[]) | ast.List(elts=[]):
            return True
        case ast.Tuple(elts=[_, *_] as parts):
            return all(map(begins_empty, parts))
        case ast.Call(func=ast.Name(id="field"), keywords=keywords):
            factories = [ast.unparse(k.value) for k in keywords if k.arg == "default_factory"]
            return any(text.partition("[")[0] in MADE for text in factories)
        case ast.Call(func=made):
            return ast.unparse(made).partition("[")[0] in MADE
    return False


@pytest.fixture(scope="module")
def kept() -> set[str]:
    return {
        f"{path.parent.name}/{path.stem}:{name}"
        for folder in ("runtime", "agents")
        for path in (ROOT / folder).glob("*.py")
        for name in collections_of(ast.parse(path.read_text(encoding="utf-8")))
    }


def test_each_collection_has_its_metric_or_cannot_grow(kept):
    listed = EXPORTED.keys() | CANNOT_GROW.keys()
    assert sorted(kept - listed) == []
    assert not EXPORTED.keys() & CANNOT_GROW.keys()


def test_the_lists_are_of_this_source(kept):
    """Names may come and go; lists of which a quarter is gone are to be gone through again."""
    for names in (EXPORTED, CANNOT_GROW):
        assert len(names.keys() & kept) > len(names) * 3 / 4, sorted(names.keys() - kept)


@pytest.mark.parametrize("name", sorted(set(EXPORTED.values())))
def test_each_metric_is_there(name):
    metric, _, what = name.partition(":")
    exposed = Metrics("captures", "0").exposition().decode()
    instrument = Metrics("captures", "0").instruments()[metric]
    assert f"\n{instrument.name}" in exposed
    assert not what or f'what="{what}"' in exposed


def test_every_gauge_of_what_is_held_is_of_a_collection():
    assert {name.partition(":")[2] for name in EXPORTED.values()} - {""} == set(HELD)


def test_a_new_queue_would_be_found():
    tree = ast.parse(
        "class Agent:\n"
        "    seen: set[str] = field(default_factory=set)\n"
        "    def __init__(self):\n"
        "        self._queue: deque[int] = deque()\n"
        "        self._timers = TimerQueue[int](clock, due)\n"
        "        self._rows = {}\n"
        "        self._generations = ({}, {})\n"
        "        self._full = {1: 2}\n"
        "        kept = []\n"
    )
    assert collections_of(tree) == {
        "Agent.seen",
        "Agent._queue",
        "Agent._timers",
        "Agent._rows",
        "Agent._generations",
    }
