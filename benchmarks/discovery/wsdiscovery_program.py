"""The search of PyPI's ``wsdiscovery``, in an environment of its own: ``… SECONDS``."""

from __future__ import annotations

import json
import sys

from wsdiscovery.discovery import (  # pyright: ignore[reportMissingImports]
    ThreadedWSDiscovery,
)

if __name__ == "__main__":
    searching = ThreadedWSDiscovery()
    searching.start()
    services = searching.searchServices(timeout=float(sys.argv[1]))
    searching.stop()
    print(json.dumps({"found": len({one.getEPR() for one in services})}))
