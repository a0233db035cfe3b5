"""Reads XML of strangers: bounded, and without the parts of XML that attack.

expat is asked directly, as defusedxml does, but stricter: a DOCTYPE ends it (so there are no
entities to expand and nothing external to fetch), and so do depth, count and text beyond what any
device sends. Names are taken without their prefix, because cameras mistake their namespaces more
often than anybody else uses the names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn
from xml.parsers import expat

from connectors.discovery.base import BadAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH: Final = 24
MAX_ELEMENTS: Final = 2_048
MAX_TEXT: Final = 8_192
"""Characters of text in one element."""


@dataclass(slots=True)
class Node:
    """An element: its name without prefix, its own text, what is in it."""

    name: str
    text: str = ""
    children: list[Node] = field(default_factory=list)

    def walk(self) -> Iterator[Node]:
        """Give this element and all beneath, outer ones first."""
        waiting: list[Node] = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting.extend(reversed(node.children))

    def all(self, name: str) -> list[Node]:
        """Return every element of this name, at any depth."""
        return [node for node in self.walk() if node.name == name]

    def first(self, *names: str) -> str:
        """Return the text of the first element with one of these names; empty: none has text."""
        for name in names:
            for node in self.walk():
                if node.name == name and node.text.strip():
                    return node.text.strip()
        return ""


def read_xml(data: bytes) -> Node:
    """Return the root element; raises BadAnswerError ``malformed`` or ``hostile``."""
    root = Node("")
    open_: list[Node] = [root]
    count = 0

    def start(name: str, _attributes: object) -> None:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS or len(open_) > MAX_DEPTH:
            raise BadAnswerError("hostile")
        node = Node(name.rpartition(":")[2])
        open_[-1].children.append(node)
        open_.append(node)

    def end(_name: str) -> None:
        open_.pop()

    def text(value: str) -> None:
        node = open_[-1]
        node.text += value
        if len(node.text) > MAX_TEXT:
            raise BadAnswerError("hostile")

    def refuse(*_arguments: object) -> NoReturn:
        raise BadAnswerError("hostile")

    parser = expat.ParserCreate(_encoding(data))
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.ProcessingInstructionHandler = refuse
    try:
        parser.Parse(data.strip(b"\0\r\n\t "), True)
    except (expat.ExpatError, ValueError, LookupError):
        raise BadAnswerError("malformed") from None
    return root.children[0]


def _encoding(data: bytes) -> str | None:
    """Return UTF-8 where the bytes are that, whatever the declaration says; else leave it to it."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return "utf-8"
