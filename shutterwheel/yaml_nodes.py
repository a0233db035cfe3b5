"""Reads YAML as a graph of nodes, each of which knows its line, and says what is wrong with it.

Nothing is made into objects: no tag of YAML can do anything, and an alias costs what it is looked
at. All findings are said at once, up to :data:`MAX_FINDINGS`, each as ``FILE:LINE:COLUMN: what was
found and what was expected``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from connectors.clients.values import duration_ms
from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

MAX_FINDINGS: Final = 20
NULL_TAG: Final = "tag:yaml.org,2002:null"
"""Of an empty value, ``~`` and ``null``."""


class ManifestError(UsageError):
    """A file that cannot be applied; ``lines`` are the findings, in the order of the file."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__(" ".join(lines))
        self.lines = lines


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return a file's bytes; UsageError where it cannot be read or is longer than that."""
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    if len(data) > most_bytes:
        raise UsageError(f"{path} is longer than {most_bytes} bytes; split it.")
    return data


def compose(data: bytes, name: str) -> Node | None:
    """Return the file's root node; None for an empty file."""
    try:
        root: Node | None = YAML(typ="safe", pure=True).compose(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            (f"{name}:{line}: this is not UTF-8 text; save it as UTF-8.",)
        ) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark is not None else name
        why = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise ManifestError((f"{place}: this is not YAML: {why}.",)) from None
    except (YAMLError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise ManifestError((f"{name}: this is not YAML: {why}.",)) from None
    except RecursionError:
        raise ManifestError((f"{name}: lists are nested too deeply.",)) from None
    return root


class EnoughError(Exception):
    """So much is wrong that no more is said."""


@dataclass(slots=True)
class NodeReader:
    """One file being read: what was found so far, and how nodes are turned into values."""

    name: str
    findings: list[tuple[int, int, str]] = field(default_factory=list)

    def wrong(self, node: Node | None, text: str) -> None:
        """Note a finding at a node."""
        line, column = place_of(node)
        self.findings.append((line, column, f"{self.name}:{line}:{column}: {text}"))
        if len(self.findings) >= MAX_FINDINGS:
            last = f"{self.name}: more than {MAX_FINDINGS - 1} findings; the rest is not shown."
            self.findings.append((1 << 60, 0, last))
            raise EnoughError

    def place(self, node: Node) -> str:
        """Return where a node stands, as ``FILE:LINE:COLUMN``."""
        line, column = place_of(node)
        return f"{self.name}:{line}:{column}"

    def mapping(
        self, node: Node, what: str, allowed: tuple[str, ...] | None
    ) -> dict[str, Node] | None:
        """Return a mapping's values by key; unknown and repeated keys are findings."""
        if not isinstance(node, MappingNode):
            self.wrong(node, f"{what} is {show(node)}; expected a mapping ('key: value').")
            return None
        found: dict[str, Node] = {}
        for key, value in pairs_of(node):
            name = key.value if isinstance(key.value, str) else "?"
            if allowed is not None and name not in allowed:
                near = difflib.get_close_matches(name, allowed, 1)
                hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(allowed)}."
                self.wrong(key, f"{what} has no key {show(key)}; {hint}")
            elif name in found:
                self.wrong(key, f"'{name}' is given twice.")
            else:
                found[name] = value
        return found

    def sequence(self, node: Node | None, what: str) -> list[Node]:
        """Return a list's items; a node that is not there has none."""
        if node is None:
            return []
        if not isinstance(node, SequenceNode):
            self.wrong(node, f"'{what}' is {show(node)}; expected a list.")
            return []
        return items_of(node)

    def has(self, node: Node, part: dict[str, Node], what: str, keys: tuple[str, ...]) -> bool:
        """Say whether all these keys are there; each that is not is a finding."""
        missing = [key for key in keys if key not in part]
        for key in missing:
            self.wrong(node, f"{what} has no '{key}'.")
        return not missing

    def text(self, node: Node, what: str) -> str | None:
        """Return a scalar as it is written."""
        if not isinstance(node, ScalarNode) or node.tag == NULL_TAG:
            self.wrong(node, f"'{what}' is {show(node)}; expected text.")
            return None
        return str(node.value)

    def word(self, node: Node, what: str, words: tuple[str, ...]) -> str | None:
        """Return one of a few words."""
        text = self.text(node, what)
        if text is None or text in words:
            return text
        near = difflib.get_close_matches(text, words, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(words)}."
        self.wrong(node, f"'{what}' is {show(node)}; {hint}")
        return None

    def number(self, node: Node, what: str) -> int:
        """Return a whole number; 0 where there is none."""
        text = self.text(node, what)
        if text is None:
            return 0
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            self.wrong(node, f"'{what}' is {show(node)}; expected a whole number.")
            return 0
        return int(text)

    def degrees(self, node: Node, what: str) -> float | None:
        """Return an angle in degrees."""
        text = self.text(node, what)
        if text is None:
            return None
        if not re.fullmatch(r"[+-]?\d{1,3}(\.\d{1,15})?", text, re.ASCII):
            self.wrong(node, f"'{what}' is {show(node)}; expected degrees, such as 48.8566.")
            return None
        return float(text)

    def duration(self, node: Node, what: str) -> int | None:
        """Return a duration in milliseconds."""
        text = self.text(node, what)
        return None if text is None else self.convert(node, lambda: duration_ms(text, f"'{what}'"))

    def convert(self, node: Node, make: Callable[[], T]) -> T | None:
        """Return what ``make`` makes; its UsageError is a finding."""
        try:
            return make()
        except UsageError as error:
            self.wrong(node, str(error))
            return None


def place_of(node: Node | None) -> tuple[int, int]:
    """Return line and column of a node, both from 1; the file's beginning for none."""
    return (1, 1) if node is None else (node.start_mark.line + 1, node.start_mark.column + 1)


def is_mapping(node: Node) -> bool:
    """Say whether a node is a mapping, if an empty one."""
    return isinstance(node, MappingNode)


def pairs_of(node: Node) -> list[tuple[Node, Node]]:
    """Return a mapping's keys and values; any other node has none."""
    return list(node.value) if isinstance(node, MappingNode) else []


def items_of(node: Node | None) -> list[Node]:
    """Return a list's items; any other node has none."""
    return list(node.value) if isinstance(node, SequenceNode) else []


def show(node: Node) -> str:
    """Return a node's value for a message."""
    if not isinstance(node.value, str):
        return "a mapping" if pairs_of(node) or "map" in str(node.tag) else "a list"
    if node.tag == NULL_TAG or node.value == "":
        return "empty"
    return repr(node.value if len(node.value) <= 60 else node.value[:60] + "…")
