"""Object stores by URL: S3, GCS, Azure, whatever obstore knows.

Where a store is and who asks stands in the environment, as its own tools have it (``AWS_…``,
``AZURE_…``, ``GOOGLE_…``).
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from obstore.store import from_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

ALLOW_HTTP: Final = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")


def open_remote(
    url: str, *, answer_s: int, connect_s: int, retries: int, retry_s: int
) -> ObjectStore:
    """Open an object store with waits of ours, as obstore's own are minutes.

    Raises what obstore raises where the URL is not understood.
    """
    client: ClientConfig = {"timeout": f"{answer_s}s", "connect_timeout": f"{connect_s}s"}
    if any(os.environ.get(name, "").lower() in {"true", "1"} for name in ALLOW_HTTP):
        client["allow_http"] = True  # client options of ours hide the variable from obstore
    retry: RetryConfig = {"max_retries": retries, "retry_timeout": timedelta(seconds=retry_s)}
    return from_url(url, client_options=client, retry_config=retry)
