"""What an audit can find: the kinds, their findings, and the exit code they make.

A finding names the place to look at first: topic, partition, offset. All are counted; of each kind
the first few are kept with their words, so that a log full of damage takes no more memory than a
sound one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST: Final = 10
"""Findings of a kind whose words are kept."""
CLEAN: Final = 0
UNCHECKED: Final = 3
"""Exit code where nothing was found and not everything could be checked."""


class Kind(msgspec.Struct, frozen=True):
    """A kind of finding."""

    bit: int
    """What it adds to the exit code, once."""
    meaning: str


LOST_BIT, DOUBLED_BIT, CHANGED_BIT, TIME_BIT, IMAGE_BIT = 4, 8, 16, 32, 64

KINDS: Final[dict[str, Kind]] = {
    "lost": Kind(LOST_BIT, "something that must be in a topic is not there"),
    "unread": Kind(LOST_BIT, "a schedule event is in no tick and no dead letter"),
    "doubled": Kind(DOUBLED_BIT, "something is there a second time"),
    "stray": Kind(DOUBLED_BIT, "a result of no command"),
    "divergent": Kind(CHANGED_BIT, "something is not what the ticks make, or says another thing"),
    "illegal": Kind(CHANGED_BIT, "a transition that the state machine does not have"),
    "corrupt": Kind(CHANGED_BIT, "bytes that make no sense, or a checksum that does not match"),
    "early": Kind(TIME_BIT, "a shutter opened before its time"),
    "late": Kind(TIME_BIT, "a photo after its deadline, or an end long after it"),
    "missing_image": Kind(IMAGE_BIT, "a picture that is not there, or not as it was stored"),
    "stray_image": Kind(IMAGE_BIT, "a picture in the store that no result names"),
}
"""In the order in which they are told. Bits of classes add up; 1 and 2 are a command's own."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it must be, and where."""

    kind: str
    topic: str
    partition: int
    offset: int
    """-1: at no single offset."""
    text: str
    device_id: str = ""

    @property
    def where(self) -> str:
        """Return the place in words."""
        at = f" @{self.offset}" if self.offset >= 0 else ""
        return f"{self.topic}[{self.partition}]{at}"


class Findings:
    """Those of one partition, or of all."""

    def __init__(self, device_id: str = "") -> None:
        """Take the only device that counts; empty: all do."""
        self.counts: dict[str, int] = {}
        self.first: dict[str, list[Finding]] = {}
        self._device_id = device_id

    def add(self, finding: Finding) -> None:
        """Take one in."""
        if self._device_id and finding.device_id != self._device_id:
            return
        self.counts[finding.kind] = self.counts.get(finding.kind, 0) + 1
        kept = self.first.setdefault(finding.kind, [])
        if len(kept) < FIRST:
            kept.append(finding)

    def merge(self, counts: dict[str, int], first: Iterable[Finding]) -> None:
        """Take in those of a partition."""
        for kind, count in counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
        for finding in first:
            kept = self.first.setdefault(finding.kind, [])
            if len(kept) < FIRST:
                kept.append(finding)

    @property
    def all_first(self) -> list[Finding]:
        """Return what was kept, kind after kind."""
        return [finding for kind in KINDS for finding in self.first.get(kind, ())]

    @property
    def total(self) -> int:
        """Return how many there are."""
        return sum(self.counts.values())


def exit_code(counts: dict[str, int], *, unchecked: bool) -> int:
    """Return the exit code: 0 clean, 3 clean as far as could be checked, else the classes' sum.

    4 lost, 8 doubled, 16 changed, 32 at a wrong time, 64 pictures.
    """
    code = 0
    for kind, count in counts.items():
        if count:
            code |= KINDS[kind].bit
    return code or (UNCHECKED if unchecked else CLEAN)
