"""Our search, as a program in the searcher's namespace: ``program.py SECONDS SOURCE…``.

Prints one JSON object: sightings, answers, devices found, hosts, and when the first, the median and
the last host was seen, in s since the first question; ``merge_ms`` is one merging of all of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from connectors.discovery.base import Scope
from connectors.discovery.interfaces import choose
from connectors.discovery.search import Search, all_sources


async def look(seconds: float, names: list[str]) -> dict[str, float]:
    """Search and return the figures."""
    sources = [one for one in all_sources() if one.name in names]
    search = Search(Scope(choose(()), seconds), sources)
    began_s, cpu_s = time.monotonic(), time.process_time()
    seen: dict[str, float] = {}
    async for found in search.run():
        seen.setdefault(found.host, time.monotonic() - began_s)
    cpu_s = time.process_time() - cpu_s
    at_s = time.monotonic()
    survey = search.survey()
    merge_ms = (time.monotonic() - at_s) * 1_000
    moments = sorted(seen.values()) or [0.0]
    tallies = search.tallies.values()
    return {
        "found": len(seen),
        "devices": len(survey.devices),
        "seen_by_all": sum(len(one.seen_by) == len(names) for one in survey.devices),
        "sightings": len(search.sightings),
        "answers": sum(one.answers for one in tallies),
        "refused": sum(one.refused.total() for one in tallies),
        "first_s": moments[0],
        "half_s": moments[len(moments) // 2],
        "last_s": moments[-1],
        "search_cpu_s": cpu_s,
        "merge_ms": merge_ms,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(look(float(sys.argv[1]), sys.argv[2:]))))
