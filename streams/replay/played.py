"""Commands played with cameras that always answer: what would have become of them, on paper.

The state machine of captures (``streams/core/capture.py``) is driven by the ticks' own time: a
command arrives with its tick, is armed ``ARM_MS`` before its shutter, the shutter opens at its
millisecond, and the photo is there ``ANSWER_MS`` later. No worker dies, no camera fails, no commit
takes time. So what ended otherwise in the past was the world's doing (a camera, a worker, the load)
where it ended SUCCESS here, and the rules' own (revoked, superseded, overlapped, too late when
issued) where it did not.

Left out: breakers, pools and retries, which need a camera that fails; leases; photos.

**Memory**: a command's end is kept until it was compared, some 100 bytes each, over one partition's
range.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from schemas.records import CaptureCommand, CaptureResult, DeviceCaptures, ImageRef, OpenCapture
from streams.core import capture
from streams.core.transition import PENDING, RUNNING
from streams.replay.what_if_diff import ARM_MS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from schemas.codec import Codec
    from schemas.records import CaptureRevoked
    from streams.replay.log import Log

RESULTS: Final = "capture.results"
ANSWER_MS: Final = 50
"""From the shutter to the stored photo."""
RETRY_MS: Final = 100
"""How soon a shutter that waits for its schedule's last capture is looked at again."""
NEVER_MS: Final = 1 << 60
SEARCH_MS: Final = 600_000
NONE: Final = "none"
_ARM, _OPEN, _DONE = 0, 1, 2
_NO_IMAGE: Final = ImageRef("replay:", "0" * 64, 0, 0, 0, "jpeg")


@dataclass(slots=True)
class Played:
    """How captures ended here and in the past."""

    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(state here, state in the past; ``none``: no result) and how many."""
    causes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """The same with the past's cause, for those that differ; its first word."""

    @property
    def equal(self) -> int:
        """How many ended alike."""
        return sum(count for (here, past), count in self.pairs.items() if here == past)

    def add(self, other: Played) -> None:
        """Count another partition's in."""
        self.pairs.update(other.pairs)
        self.causes.update(other.causes)


class Player:
    """The captures of one partition; time is that of its ticks."""

    def __init__(self) -> None:
        self.ended: dict[int, str] = {}
        """States by command id."""
        self._rows: dict[str, DeviceCaptures] = {}
        self._due: list[tuple[int, int, int, str]] = []

    def take(self, commands: Iterable[CaptureCommand | CaptureRevoked], now_ms: int) -> None:
        """Let time pass to a tick's, and take what it issued."""
        self.pass_to(now_ms)
        for command in commands:
            row = self._rows.get(command.device_id) or DeviceCaptures(command.device_id, (), ())
            if isinstance(command, CaptureCommand):
                self._keep(capture.on_command(row, command, now_ms), now_ms)
            else:
                self._keep(capture.on_revoked(row, command, now_ms), now_ms)

    def pass_to(self, now_ms: int) -> None:
        """Do all that is due up to a time, each at its own."""
        while self._due and self._due[0][0] <= now_ms:
            at_ms, what, command_id, device_id = heapq.heappop(self._due)
            row = self._rows.get(device_id)
            found = None if row is None else capture.find(row, command_id)
            if row is None or not isinstance(found, OpenCapture):
                continue
            if what == _ARM and found.state == PENDING:
                self._keep(capture.on_arming(row, command_id, at_ms), at_ms)
            elif what == _OPEN and found.state == RUNNING:
                self._open(row, found, at_ms)
            elif what == _DONE and found.state == RUNNING:
                shutter_ms = at_ms - ANSWER_MS
                done = capture.on_success(row, command_id, _NO_IMAGE, None, shutter_ms, at_ms)
                self._keep(done, at_ms)

    def _open(self, row: DeviceCaptures, found: OpenCapture, at_ms: int) -> None:
        command_id, device_id = found.command.command_id, row.device_id
        match capture.shutter_decision(at_ms, found, lease_alive=True, row=row):
            case "open":
                self._push(at_ms + ANSWER_MS, _DONE, command_id, device_id)
            case "overlap_skip":
                self._keep(capture.on_overlapped(row, command_id, at_ms), at_ms)
            case "expired":
                self._keep(capture.on_expired(row, command_id, at_ms, "late"), at_ms)
            case _:
                at_ms = max(at_ms + RETRY_MS, capture.not_before_ms(found))
                self._push(at_ms, _OPEN, command_id, device_id)

    def _keep(self, change: capture.Change, now_ms: int) -> None:
        row = change.state
        for result in change.results:
            self.ended[result.command_id] = result.state
        for entry in change.arm:
            at_ms = max(capture.not_before_ms(entry) - ARM_MS, now_ms)
            self._push(at_ms, _ARM, entry.command.command_id, row.device_id)
        for entry in change.shutter:
            at_ms = max(capture.not_before_ms(entry), now_ms)
            self._push(at_ms, _OPEN, entry.command.command_id, row.device_id)
        row = capture.forget(row, now_ms)
        if capture.is_empty(row):
            self._rows.pop(row.device_id, None)
        else:
            self._rows[row.device_id] = row

    def _push(self, at_ms: int, what: int, command_id: int, device_id: str) -> None:
        heapq.heappush(self._due, (at_ms, what, command_id, device_id))


def compare_results(log: Log, partition: int, codec: Codec, player: Player, from_ms: int) -> Played:
    """Let all that is open end, and lay the ends beside those of capture.results."""
    player.pass_to(NEVER_MS)
    found, waiting = Played(), player.ended
    first = log.offset_at(RESULTS, partition, from_ms - SEARCH_MS)
    for batch in log.read(RESULTS, partition, first, log.ends(RESULTS)[partition]):
        for entry in batch:
            result = codec.decode_as(entry.value or b"", CaptureResult)
            here = waiting.pop(result.command_id, None)
            if here is None:
                continue  # of a command from before the range, or after it
            found.pairs[here, result.state] += 1
            if here != result.state:
                found.causes[here, result.state, result.cause.partition(":")[0]] += 1
    for here in waiting.values():
        found.pairs[here, NONE] += 1
    return found
