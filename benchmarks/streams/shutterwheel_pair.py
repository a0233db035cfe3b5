"""Two workers of ``shutterwheel_program.py`` on one job, each with half of the partitions.

Python holds a worker to one core; the way to use a second one is a second worker, as in operation.
``first`` is said when both have partitions, so the join of the second one lies before the window;
what had been worked on by then does not count.
"""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from typing import Final

import msgspec

from benchmarks.streams.work import given_job, say

WORKERS: Final = 2


class _Said(msgspec.Struct):
    event: str
    done: int = 0


def _listen(
    slot: int, child: subprocess.Popen[bytes], said: queue.SimpleQueue[tuple[int, _Said | None]]
) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        said.put((slot, msgspec.json.decode(line, type=_Said)))
    said.put((slot, None))


def main() -> None:
    """Run until standard input closes, which ends the workers, too."""
    job = given_job()
    said: queue.SimpleQueue[tuple[int, _Said | None]] = queue.SimpleQueue()
    for slot in range(WORKERS):
        command = [sys.executable, "-m", "benchmarks.streams.shutterwheel_program", job.text()]
        # They are tethered to this process by their standard input.
        child = subprocess.Popen(
            [*command, str(slot)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        threading.Thread(target=_listen, args=(slot, child, said), daemon=True).start()
    done, opened, both = [0] * WORKERS, set[int](), False
    while sum(done) < job.records:
        slot, event = said.get()
        if event is None:
            raise SystemExit(f"worker {slot} ended")
        done[slot] = event.done
        if event.event == "opened":
            opened.add(slot)
        if len(opened) == WORKERS and not both:
            both = True
            say("first", sum(done))
    say("last")
    threading.Event().wait()


if __name__ == "__main__":
    main()
