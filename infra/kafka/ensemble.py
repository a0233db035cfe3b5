"""Three embedded brokers on loopback: one may be killed, and nothing that was acknowledged is lost.

    with EmbeddedEnsemble(Path(".shutterwheel/kafka")) as ensemble:
        create_topics(ensemble.bootstrap, "", 8, replication=3)

Each node is broker and controller at once, with its data in ``node-1`` to ``node-3``. Made for the
fault bench: on one machine three nodes share its disk and its power.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from infra.kafka.broker import EmbeddedBroker, new_cluster_id
from infra.kafka.ports import free_port
from infra.kafka.settings import BrokerSettings

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

NODES = 3


class EmbeddedEnsemble:
    """Three brokers that form one cluster and belong to this process."""

    def __init__(self, data_dir: Path, settings: BrokerSettings | None = None) -> None:
        """Prepare a new cluster in an empty folder; nothing is started yet."""
        shared = replace(
            settings or BrokerSettings(),
            voters=tuple((node, free_port()) for node in range(1, NODES + 1)),
            cluster_id=new_cluster_id(),
        )
        self.nodes = {
            node: EmbeddedBroker(data_dir / f"node-{node}", replace(shared, node_id=node))
            for node, _ in shared.voters
        }
        """The brokers by node id."""

    @property
    def bootstrap(self) -> str:
        """Return ``host:port`` of each node, separated by commas; known after ``start()``."""
        return ",".join(broker.bootstrap for broker in self.nodes.values())

    def start(self) -> str:
        """Start all nodes together, as none answers before two are there; return the bootstrap.

        Raises:
            BrokerError: one of them cannot run here; none is left running.

        """
        try:
            with ThreadPoolExecutor(NODES) as pool:
                list(pool.map(EmbeddedBroker.start, self.nodes.values()))
        except BaseException:
            self.stop()
            raise
        return self.bootstrap

    def stop(self) -> None:
        """Stop all nodes together: the last ones would find no quorum to say good-bye to."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(EmbeddedBroker.stop, self.nodes.values()))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
