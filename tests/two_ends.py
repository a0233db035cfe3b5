"""Processes share the tests: some begin with those that wait, others with those that compute.

Tests of Kafka, workers and cameras wait most of their time, for sessions to end and schedules to be
due; those of pure code never do. One queue of files has the first at its front and the second at
its back. Processes with an even number take from the front, odd ones from the back, until they
meet: so the cores are in use all the time, and what a test waits for is not held up by all others
at once. Whole files, so that what a file shares is made once. A process that comes to a test with
Kafka starts a broker of its own.

So a test has others before it in its process that it does not have alone: clients of a broker whose
threads are still at work, objects that wait to be collected, sockets. What a test counts, it counts
by what it has opened itself (``benchmarks/misbehaviour/own_sockets.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

ALONE = (
    "unit/discovery/",
    "unit/cli/test_discover",
    "contracts/test_discovery",
    "integration/test_discover",
)
"""Discovery is one piece of work, one process after the other: multicast on the loopback is
everybody's."""
ORDER = (
    *ALONE,
    "faults/",
    "integration/chain/",
    "integration/",
    "interop/",
    "peers/",
    "contracts/",
    "unit/",
    "",
    "unit/images/",
    "unit/replay/",
    "unit/core/",
    "simulation/",
)
"""Beginnings of paths under ``tests``, from what waits to what computes; the longest one counts."""


def place(path: str) -> int:
    """Return a file's place in the queue; ``path`` is relative to ``tests``."""
    return ORDER.index(max((p for p in ORDER if path.startswith(p)), key=len))


def unit_of(path: str) -> str:
    """Return the piece of work that a file under ``tests`` belongs to."""
    return ALONE[0] if path.startswith(ALONE) else path


class TwoEnds(LoadFileScheduling):
    """xdist's scheduling by file, with the queue taken from at both ends."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return unit_of(file.removeprefix("tests/"))

    def schedule(self) -> None:
        self.config.option.loadscopereorder = False  # the order is that of the items
        super().schedule()

    def _assign_work_unit(self, node: WorkerController) -> None:
        if int(node.gateway.id.removeprefix("gw")) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
