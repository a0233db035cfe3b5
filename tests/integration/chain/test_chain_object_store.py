"""The whole chain over an object store that stands still for a while (issue 8, 'Blob store').

A capture is RUNNING until its photo is stored or its deadline is over, and is then on the record:
SUCCESS, of whichever attempt, or FAILED with a cause that names the store.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
import uuid

import pytest
from chain_harness import PARTITIONS, Chain, assert_kept
from moto_s3 import MotoS3

from connectors.blobs.keys import beside_key
from connectors.blobs.store import BlobStore
from connectors.images.signing import PublicKey, make_keys
from connectors.images.verify import verify
from shutterwheel.cluster import ClusterOptions


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_store_that_stands_still_loses_nothing(kafka, tmp_path):
    with MotoS3(tmp_path / "moto") as s3, pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment().items():
            patch.setenv(name, value)
        s3.make_bucket("photos")
        make_keys(tmp_path / "site.key")
        options = ClusterOptions(
            data=tmp_path / "data",
            kafka=kafka,
            namespace=f"t{uuid.uuid4().hex[:12]}",
            partitions=PARTITIONS,
            blobs="s3://photos/north",
            prune_every="1s",
            sign_key=str(tmp_path / "site.key"),
        )
        with Chain(options, devices=8) as chain:
            chain.introduce()
            chain.schedule(1_000, image="label width=64 thumbnail=32")
            chain.run_on(photos=16)
            s3.pause()
            try:
                chain.run_on(photos=16)
                chain.wait_until("an attempt failed for the store", lambda: failures(chain))
            finally:
                s3.resume()
            chain.run_on(photos=24)
            chain.cancel()
            chain.drain()
            chain.wait_until("the pruner has looked", lambda: pruned(chain, "timestamp_seconds"))
            assert pruned(chain, "photos_total") == 0, "none of them may go"
            report = chain.check()
            assert_kept(report)
            results = chain.results()
            one = next(r.image.uri for r in results if r.state == "SUCCESS")
            data = asyncio.run(BlobStore.open(options.blobs).read(one))
    key = PublicKey.load(tmp_path / "site.key.pub")
    found = verify(data, one, time.time_ns() // 1_000_000, None, (key,))
    assert found.ok, found
    ended = [r for r in results if r.state == "SUCCESS"]
    beside = {beside_key(r.image.uri, r.image.sha256, "thumbnail") for r in ended}
    assert len(beside) == len(ended) >= 24
    for result in results:
        causes = [result.cause, *(row.cause for row in result.transitions)]
        told = any("store" in cause for cause in causes)
        assert result.state in {"SUCCESS", "REVOKED"} or told, result


def pruned(chain: Chain, name: str) -> float:
    """Return what the pruner says of itself."""
    with urllib.request.urlopen(f"{chain.worker('photos').url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    (line,) = [one for one in lines if one.startswith(f"shutterwheel_pruned_{name} ")]
    return float(line.split()[1])


def failures(chain: Chain) -> bool:
    return any("store" in row.cause for r in chain.results() for row in r.transitions) or any(
        "store" in r.cause for r in chain.results()
    )
