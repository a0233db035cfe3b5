"""Which worker slot owns which partition: a consistent-hash ring with bounded loads (SPEC 4.2).

Theory
------
Each slot stands on a ring of 2^64 positions at ``VIRTUAL_NODES`` points, the MD5 of its name and a
number; each partition at one, the MD5 of its number. A partition **prefers** the slots in the order
in which the ring, walked upwards from the partition, meets them first (Karger et al., 1997). The
first preference alone would leave a slot of five with a third of the partitions, so each slot has
a **quota** and takes no more (bounded loads: Mirrokni, Thorup and Zadimoghaddam, 2018). The quotas
add up to the partitions: each is partitions / slots rounded down, and one more for as many slots as
are left over, those whose own names stand first on the ring. So all quotas are filled, and no slot
idles while another has two.

Who has to go on when a slot is full is decided as in a stable marriage with quotas (Gale and
Shapley, 1962): each partition asks the slots in its order of preference, and a full slot keeps
those that stand nearest before one of its points. The outcome does not depend on the order in which
partitions ask. So the assignment is a function of the *names of the slots* and nothing else: not of
who leads the group, of earlier assignments or of the order of joining. A slot that is restarted
gets its partitions back, and 4 -> 5 -> 4 slots end where they began.

Worked example
--------------
Points ``a`` at 10 and 60, ``b`` at 30; partitions 0 at 5, 1 at 8, 2 at 20, 3 at 50; quotas 2 and 2.
Partition 0 asks a (distance 5), 1 asks a (2), 2 asks b (10), 3 asks a (10). a is asked by three and
refuses the furthest, 3, whose next point upwards after a's is, round the top, a's again and then
b's at 30; b has room. Result: a has 0 and 1, b has 2 and 3.

Cost
----
Partitions moved when 4 slots become 5 (mean of four namings; 5 -> 4 moves the same ones back):
2.75 of 8 (the least possible: 1), 15.5 of 64 (12), 59 of 256 (51), 224 of 1,024 (204). Faust's own
assignor moves 4, 16, 52 and 208 on the way up, but on the way back it leaves 4, 6, 28 and 104 with
other workers than before, and a restarted process is a stranger to it.
Time: 1,024 partitions on 5 slots 5 ms, on 100 slots 30 ms.
"""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

VIRTUAL_NODES: Final = 160
"""Points of a slot on the ring (SPEC 4.2)."""
_AROUND: Final = 1 << 64

_Preference = tuple[str, int]
"""(slot, distance from the partition up to the slot's nearest point)"""


def position(name: str) -> int:
    """Return where a name stands on the ring: the first eight bytes of its MD5, big-endian."""
    digest = hashlib.md5(name.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big")


class Ring:
    """The points of a set of slots."""

    def __init__(self, slots: Collection[str]) -> None:
        """Place the slots; their order and repetitions do not matter.

        Raises:
            ValueError: there is no slot.

        """
        self.slots = tuple(sorted(set(slots)))
        if not self.slots:
            raise ValueError("a ring needs a slot")
        points = sorted(
            (position(f"{slot}#{number}"), slot)
            for slot in self.slots
            for number in range(VIRTUAL_NODES)
        )
        self._positions = [at for at, _ in points]
        self._owners = [slot for _, slot in points]

    def preferences(self, partition: int) -> Iterator[_Preference]:
        """Yield every slot once, nearest first, with its distance."""
        at = position(f"partition-{partition}")
        first, count = bisect_left(self._positions, at), len(self._positions)
        met: set[str] = set()
        for step in range(count):
            index = (first + step) % count
            slot = self._owners[index]
            if slot not in met:
                met.add(slot)
                yield slot, (self._positions[index] - at) % _AROUND

    def quotas(self, partitions: int) -> dict[str, int]:
        """Return how many partitions each slot has: as equal as can be."""
        least, over = divmod(partitions, len(self.slots))
        first = sorted(self.slots, key=position)[:over]
        return {slot: least + (slot in first) for slot in self.slots}

    def assign(self, partitions: int) -> dict[str, list[int]]:
        """Return the partitions of each slot, ascending, as many as its quota."""
        quotas = self.quotas(partitions)
        kept: dict[str, list[tuple[int, int]]] = {slot: [] for slot in self.slots}
        asking = [self.preferences(partition) for partition in range(partitions)]
        free = list(range(partitions))
        while free:
            partition = free.pop()
            slot, distance = next(asking[partition])
            heapq.heappush(kept[slot], (-distance, -partition))  # the furthest on top
            if len(kept[slot]) > quotas[slot]:
                free.append(-heapq.heappop(kept[slot])[1])
        return {slot: sorted(-number for _, number in pairs) for slot, pairs in kept.items()}
