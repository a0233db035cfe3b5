"""Creates the topics on a cluster and compares what is there with what is wanted.

Nothing that exists is ever changed here: partitions cannot be taken away, adding some would move
devices between them, and a shorter retention deletes records. What differs is said in a sentence,
and a person decides.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.kafka.topics import TOPICS, TopicSpec, check_namespace, check_partitions, topic_name
from schemas.errors import BrokerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

ANSWER_TIMEOUT_S = 10.0
"""How long a cluster may take to answer one request."""
CREATE_TIMEOUT_S = 60.0
"""How long it may take until every new partition has a leader."""
PARTITION_TIMEOUT_S = 0.02
"""So much longer for each of them: on two busy cores a broker makes 200 to 400 a second."""
MOST_PARTITIONS_A_REQUEST = 8_000
"""Kafka's controller refuses a request to create more than 10,000, and counts settings as well."""

_COMPARED = ("cleanup.policy", "retention.ms", "message.timestamp.type")


@dataclass(frozen=True, slots=True)
class TopicRow:
    """A topic as it is wanted and as it is; every ``actual_*`` is None where it does not exist."""

    name: str
    spec: TopicSpec
    wanted_partitions: int
    actual_partitions: int | None
    wanted_replication: int
    actual_replication: int | None
    wanted: Mapping[str, str]
    """The wanted settings."""
    actual: Mapping[str, str] | None
    """The actual values of the wanted settings."""

    @property
    def exists(self) -> bool:
        """Say whether the topic is there."""
        return self.actual_partitions is not None

    @property
    def differences(self) -> tuple[str, ...]:
        """Return one sentence for each thing that matters and is not as wanted."""
        if self.actual_partitions is None or self.actual is None:
            return ()
        found: list[str] = []
        if self.actual_partitions != self.wanted_partitions:
            found.append(
                f"Topic {self.name} has {self.actual_partitions} partitions, "
                f"{self.wanted_partitions} were expected; it was left as it is."
            )
        found.extend(
            f"Topic {self.name} has {setting}={self.actual[setting]}, "
            f"{self.wanted[setting]} was expected; it was left as it is."
            for setting in _COMPARED
            if self.actual.get(setting, self.wanted[setting]) != self.wanted[setting]
        )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class CreateReport:
    """What ``create_topics`` did."""

    created: tuple[str, ...]
    existing: tuple[str, ...]
    differences: tuple[str, ...]
    """A sentence for each existing topic's setting that is not as wanted."""


def admin_client(bootstrap: str, client: Mapping[str, str] | None = None) -> AdminClient:
    """Return an AdminClient that keeps quiet; ``client`` adds librdkafka settings (TLS, SASL)."""
    from confluent_kafka.admin import AdminClient

    settings: dict[str, object] = {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 500,
        # What goes wrong is an exception here; librdkafka's own lines would only repeat it.
        "log_level": 0,
        "error_cb": lambda _error: None,
        **(client or {}),
    }
    # Its stub knows settings of plain values only; a callback is one, too.
    return AdminClient(settings)  # type: ignore[arg-type]


def cluster_metadata(
    admin: AdminClient, bootstrap: str, timeout_s: float | None = None
) -> ClusterMetadata:
    """Return the cluster's brokers and topics.

    Raises:
        BrokerError: nothing that speaks Kafka answers at ``bootstrap`` within ``timeout_s``
            (default ``ANSWER_TIMEOUT_S``).

    """
    from confluent_kafka import KafkaException

    limit_s = ANSWER_TIMEOUT_S if timeout_s is None else timeout_s
    try:
        return admin.list_topics(timeout=limit_s)
    except KafkaException as error:
        message = f"No Kafka broker answers at {bootstrap} (waited {limit_s:g} s)."
        raise BrokerError(message) from error


def create_topics(
    bootstrap: str,
    namespace: str,
    partitions: int,
    replication: int = 1,
    client: Mapping[str, str] | None = None,
) -> CreateReport:
    """Create the topics that are not there and wait until each of their partitions has a leader.

    May be called as often as one likes, and by several programs at the same time. Topics that
    exist are compared, not changed.

    Raises:
        UsageError: ``partitions`` or ``namespace`` cannot be.
        BrokerError: no broker answers, or it refuses to create a topic.

    """
    check_partitions(partitions)
    admin = admin_client(bootstrap, client)
    rows = _rows(admin, bootstrap, namespace, partitions, replication)
    missing = [row for row in rows if not row.exists]
    created: list[str] = []
    at_once = topics_a_request(partitions)
    for first in range(0, len(missing), at_once):
        created += _create(admin, missing[first : first + at_once], partitions, replication)
    if missing:
        _wait_for_leaders(admin, bootstrap, [row.name for row in missing])
        rows = _rows(admin, bootstrap, namespace, partitions, replication)
    return CreateReport(
        created=tuple(created),
        existing=tuple(row.name for row in rows if row.name not in set(created)),
        differences=tuple(sentence for row in rows for sentence in row.differences),
    )


def topics_a_request(partitions: int) -> int:
    """Return how many topics of so many partitions one request may create."""
    return max(MOST_PARTITIONS_A_REQUEST // partitions, 1)


def _create(
    admin: AdminClient, missing: list[TopicRow], partitions: int, replication: int
) -> list[str]:
    """Create these topics in one request; return those that nobody else made meanwhile."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

    futures = admin.create_topics(
        [
            NewTopic(
                row.name,
                num_partitions=partitions,
                replication_factor=replication,
                config=dict(row.wanted),
            )
            for row in missing
        ],
        operation_timeout=CREATE_TIMEOUT_S / 2,
        request_timeout=CREATE_TIMEOUT_S,
    )
    created: list[str] = []
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                message = f"Topic {name} could not be created: {reason.str()}"
                raise BrokerError(message) from error
    return created


def describe_topics(
    bootstrap: str,
    namespace: str,
    partitions: int,
    replication: int = 1,
    client: Mapping[str, str] | None = None,
) -> tuple[TopicRow, ...]:
    """Return a row for each topic, wanted beside actual; changes nothing.

    Raises:
        UsageError: ``partitions`` or ``namespace`` cannot be.
        BrokerError: no broker answers.

    """
    check_partitions(partitions)
    admin = admin_client(bootstrap, client)
    return tuple(_rows(admin, bootstrap, namespace, partitions, replication))


def drop_topics(
    bootstrap: str, namespace: str, client: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Delete every topic of a sandbox with all it holds; return their names.

    Raises:
        UsageError: the namespace is empty: production topics are not dropped by a program.
        BrokerError: no broker answers, or it refuses.

    """
    from confluent_kafka import KafkaException

    if not check_namespace(namespace):
        message = "Topics without a namespace are production's; they are not dropped from here."
        raise UsageError(message)
    admin = admin_client(bootstrap, client)
    found = cluster_metadata(admin, bootstrap).topics
    there = [name for name in found if name.startswith(f"{namespace}.")]
    if there:
        for name, future in admin.delete_topics(
            there, operation_timeout=CREATE_TIMEOUT_S / 2, request_timeout=CREATE_TIMEOUT_S
        ).items():
            try:
                future.result()
            except KafkaException as error:
                message = f"Topic {name} could not be deleted: {error.args[0].str()}"
                raise BrokerError(message) from error
    return tuple(there)


def _rows(
    admin: AdminClient, bootstrap: str, namespace: str, partitions: int, replication: int
) -> list[TopicRow]:
    wanted = {topic_name(namespace, spec.name): spec for spec in TOPICS}
    found = cluster_metadata(admin, bootstrap).topics
    existing = {
        name: (len(found[name].partitions), len(found[name].partitions[0].replicas))
        for name in wanted
        if name in found and found[name].partitions
    }
    settings = _settings(admin, list(existing))
    rows: list[TopicRow] = []
    for name, spec in wanted.items():
        wish = spec.config(replication)
        actual_partitions, actual_replication = existing.get(name, (None, None))
        known = settings.get(name)
        rows.append(
            TopicRow(
                name=name,
                spec=spec,
                wanted_partitions=partitions,
                actual_partitions=actual_partitions,
                wanted_replication=replication,
                actual_replication=actual_replication,
                wanted=wish,
                actual=known and {key: known[key] for key in wish if key in known},
            )
        )
    return rows


def _settings(admin: AdminClient, topics: list[str]) -> dict[str, dict[str, str]]:
    """Return the settings of these topics; one that went away meanwhile is left out."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

    if not topics:
        return {}
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in topics]
    answer: dict[str, dict[str, str]] = {}
    for resource, future in admin.describe_configs(
        resources, request_timeout=ANSWER_TIMEOUT_S
    ).items():
        try:
            entries = future.result()
        except KafkaException:
            continue
        answer[resource.name] = {key: str(entry.value) for key, entry in entries.items()}
    return answer


def _wait_for_leaders(admin: AdminClient, bootstrap: str, topics: list[str]) -> None:
    """Wait until every partition of these topics can be written and read.

    A broker says 'created' when the controller has written it down; it leads the partitions a
    moment later.
    """
    began_s, partitions = time.monotonic(), 0
    while True:
        asked_s = time.monotonic()
        found = cluster_metadata(admin, bootstrap).topics
        waiting = [
            name
            for name in topics
            if name not in found
            or not found[name].partitions
            or any(one.leader < 0 for one in found[name].partitions.values())
        ]
        if not waiting:
            return
        partitions = max(partitions, sum(len(found[n].partitions) for n in topics if n in found))
        patience_s = CREATE_TIMEOUT_S + partitions * PARTITION_TIMEOUT_S
        now_s = time.monotonic()
        if now_s - began_s > patience_s:
            message = f"Topic {waiting[0]} has no leader {patience_s:g} s after it was made."
            raise BrokerError(message)
        time.sleep(max(0.05, 4 * (now_s - asked_s)))  # the answer costs the broker as long


def set_topic_settings(
    admin: AdminClient, settings: Mapping[str, Mapping[str, str]], timeout_s: float
) -> None:
    """Change some settings of topics, by their names on the broker; others stay.

    Raises BrokerError.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AlterConfigOpType,  # pyright: ignore[reportPrivateImportUsage]
        ConfigEntry,  # pyright: ignore[reportPrivateImportUsage]
        ConfigResource,  # pyright: ignore[reportPrivateImportUsage]
    )

    resources = [
        ConfigResource(
            ConfigResource.Type.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in wanted.items()
            ],
        )
        for name, wanted in settings.items()
        if wanted
    ]
    if not resources:
        return
    for resource, future in admin.incremental_alter_configs(
        resources, request_timeout=timeout_s
    ).items():
        try:
            future.result()
        except KafkaException as error:
            raise BrokerError(
                f"Topic {resource.name} cannot be changed: {error.args[0].str()}"
            ) from error


def delete_records(
    admin: AdminClient, before: Mapping[tuple[str, int], int], timeout_s: float
) -> None:
    """Delete what stands before an offset of each (topic, partition).

    Raises BrokerError.
    """
    from confluent_kafka import KafkaException, TopicPartition

    asked = [TopicPartition(*place, offset) for place, offset in before.items()]
    for place, future in admin.delete_records(asked, request_timeout=timeout_s).items():
        try:
            future.result()
        except KafkaException as error:
            raise BrokerError(
                f"{place.topic}-{place.partition} cannot be cut: {error.args[0].str()}"
            ) from error
