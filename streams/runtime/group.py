"""Who we are in the consumer group, and until when that may be believed.

Two facts travel from the consumer's thread to everything that writes:

* the **membership** (generation, member id). A transaction is stamped with it at its first
  output; the broker refuses the stamp of a generation that has passed. aiokafka shows ``(-1, "")``
  once it has lost its group, and the broker accepts *that* pair unchecked, so it must never be
  used: :meth:`Group.membership` returns ``None`` for it.
* the **lease**: the time of the last heartbeat that the coordinator answered well. While
  ``now - heartbeat < session timeout - margin`` no other worker can have been given our
  partitions behind our back. It is measured by ``CLOCK_BOOTTIME``, which goes on while the
  process is stopped and while the machine sleeps. Only heartbeats count: a transactional offset
  commit does not restart the coordinator's session timer, so it proves nothing about the future.
  Joining counts as a heartbeat from the moment its last request (SyncGroup) was sent.

While the group is joined again there is no membership, so nothing can be written, but the lease
goes on: nobody is given our partitions before we have asked to join, and what we may still do with
them afterwards is agreed with their next owner (``handover.py``).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def boottime_ms() -> float:
    """Milliseconds since boot, suspended time included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) * 1000.0


@dataclass(frozen=True, slots=True)
class Membership:
    """A place in the group: valid from one rebalance to the next."""

    generation: int
    member_id: str


class MemberNote:
    """The member id of the process that has this slot's state, noted beside it.

    Whoever holds the lock of the state folder and finds the note of an earlier process knows that
    that process is dead, and can leave the group on its behalf. Otherwise the next rebalance, which
    this process causes by joining, would wait until the dead one's session has timed out, with all
    partitions of all workers paused.
    """

    def __init__(self, state_dir: Path) -> None:
        """Take the state folder; its lock must be held."""
        self._path = state_dir / "member"
        self._noted = ""
        self._taken = False

    def take(self) -> str:
        """Return the dead predecessor's member id, once; empty if there is none."""
        if self._taken:
            return ""  # what stands there now is our own
        self._taken = True
        try:
            found = self._path.read_text()
            self._path.unlink()
        except (OSError, UnicodeDecodeError):
            return ""
        return found.strip()

    def write(self, member_id: str) -> None:
        """Note who we are; if it cannot be noted, a successor will have to wait."""
        if member_id and member_id != self._noted:
            with contextlib.suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.write_text(member_id)
                self._noted = member_id

    def forget(self) -> None:
        """Note that we have left."""
        self._path.unlink(missing_ok=True)


class Group:
    """Membership and lease of this process. Written by the consumer's thread, read by all.

    Each field is one reference assignment, which the interpreter makes atomic.
    """

    def __init__(self, session_timeout_ms: int, lease_margin_ms: int) -> None:
        self._valid_ms = float(session_timeout_ms - lease_margin_ms)
        self._membership: Membership | None = None
        self._renewed_at_ms = float("-inf")
        self._known = False

    def joined(self, generation: int, member_id: str) -> None:
        """Note the membership that a rebalance gave us."""
        if generation < 0 or not member_id:
            self.lost()
        else:
            self._membership = Membership(generation, member_id)
            self._known = True

    def rejoining(self) -> None:
        """Note that we join again: nothing can be written, but the lease goes on."""
        self._membership = None

    def lost(self) -> None:
        """Note that we are in no group."""
        self._membership = None
        self._known = False

    def renew(self, sent_at_ms: float) -> None:
        """Note a heartbeat that was *sent* at this boot time and answered well."""
        self._renewed_at_ms = max(self._renewed_at_ms, sent_at_ms)

    @property
    def membership(self) -> Membership | None:
        """Return the membership, or ``None`` while there is none."""
        return self._membership

    def lease_alive(self) -> bool:
        """Tell whether no other worker can own our partitions at this moment."""
        return self._known and self.lease_age_ms() < self._valid_ms

    def lease_age_ms(self) -> float:
        """Milliseconds since the last good heartbeat was sent; infinite before the first."""
        return boottime_ms() - self._renewed_at_ms
