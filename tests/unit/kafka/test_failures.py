"""Why a broker ended, in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.kafka.failures import reason

DATA = Path("/data")

LOG = """\
2026-01-01 10:00:00,000 INFO KafkaRaftServer: Starting
2026-01-01 10:00:01,000 ERROR Kafka$: Exiting Kafka due to fatal exception
java.lang.RuntimeException: Stored node id 7 doesn't match previous node id 1
\tat org.apache.kafka.Something.run(Something.java:12)
"""


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("x\njava.io.IOException: No space left on device\n", "The disk of /data is full"),
        ("Caused by: java.net.BindException: Address already in use\n", "Port 9092 of 127.0.0.1"),
        ("Failed to acquire lock on file .lock in /data/log", "in use by another broker"),
        ("java.lang.UnsupportedClassVersionError: kafka/Kafka", "Java 17 or newer"),
        ("java.nio.file.AccessDeniedException: /data/log/x", "may not write in /data"),
        (LOG, "RuntimeException: Stored node id 7 doesn't match previous node id 1 (see"),
        (
            "2026-01-01 10:00:01,000 ERROR Kafka$: it broke\nbye",
            "The broker ended: Kafka$: it broke",
        ),
        ("Error: bad flag -Xq\n", "The broker ended: Error: bad flag -Xq (see"),
        ("something\nelse\n", "The broker ended: else (see"),
        ("", "it said nothing"),
        ("\n".join(["ERROR " + "x" * 5000] * 3), "The broker ended: ERROR xxx"),
    ],
)
def test_the_telling_line_is_found(words, sentence):
    said = reason(words, DATA, 9092)
    assert sentence in said
    assert "\n" not in said
    assert len(said) < 400


def test_a_common_reason_wins_over_what_followed_from_it():
    words = (
        "java.io.IOException: No space left on device\njava.lang.IllegalStateException: closed\n"
    )
    assert reason(words, DATA, 1) == "The disk of /data is full; the broker stopped."
