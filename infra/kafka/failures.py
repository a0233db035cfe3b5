"""Why a broker ended, in one sentence, from what it logged and printed last."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PORT_TAKEN = "already in use"
"""What Java says of a port that another program has."""

_KNOWN: tuple[tuple[str, str], ...] = (
    ("No space left on device", "The disk of {data_dir} is full; the broker stopped."),
    ("Failed to acquire lock on file", "The data in {data_dir} is in use by another broker."),
    (PORT_TAKEN, "Port {port} of 127.0.0.1 is taken: stop that program or choose another port."),
    ("UnsupportedClassVersionError", "The Java in use is too old: Java 17 or newer is needed."),
    ("insufficient memory", "There is not enough memory for the broker's heap."),
    ("OutOfMemoryError", "The broker ran out of memory; give it a larger heap."),
    ("Permission denied", "The broker may not write in {data_dir}."),
    ("AccessDeniedException", "The broker may not write in {data_dir}."),
)
_EXCEPTION = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+([\w$]*(?:Exception|Error)\b.*)")
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \S+ (?:FATAL|ERROR) ")
_ERROR = re.compile(r"\b(?:FATAL|ERROR|Error)\b")
_LONGEST = 300
"""Characters of Kafka's own words that are shown."""


def reason(words: str, data_dir: Path, port: int) -> str:
    """Return one sentence for ``words``, the end of a dead broker's log and output.

    What is common is said in our words; else the last exception's message stands for it, else the
    last error, else the last line.
    """
    for mark, sentence in _KNOWN:
        if mark.lower() in words.lower():
            return sentence.format(data_dir=data_dir, port=port)
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    exceptions = [found.group(1) for line in lines if (found := _EXCEPTION.match(line))]
    errors = [_STAMP.sub("", line) for line in lines if _ERROR.search(line)]
    said = (exceptions or errors or lines or ["it said nothing"])[-1]
    return f"The broker ended: {said[:_LONGEST]} (see {data_dir / 'broker.log'})."
