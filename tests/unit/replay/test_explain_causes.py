"""Every sentence that the code can write has a reason: read off the code itself (issue 7)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from connectors.cameras.base import CAUSES
from streams.agents.capture_executor import EXPIRE
from streams.core import breaker
from streams.replay.explain_causes import BEGINS, CAMERA_CAUSES, reason_of, short_word
from streams.replay.explain_reasons import Code

ROOT = Path(__file__).resolve().parents[3]
CORE, AGENTS = ROOT / "streams/core", ROOT / "streams/agents"


def text_of(node: ast.expr) -> str | None:
    """Return the text of a constant or an f-string, with 7 for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "7" for part in node.values
        )
    return None


def calls(path: Path, *names: str) -> list[ast.Call]:
    """Return the calls of functions or methods of these names in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in names:
                found.append(node)
    return found


def assigned(path: Path, *names: str) -> list[str]:
    """Return the texts that are assigned to variables of these names, or returned beside one."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in names:
            text = text_of(node.value)
            if text:
                found.append(text)
    return found


def returned(path: Path, function: str) -> list[str]:
    """Return the texts that a function may return, by themselves or first in a tuple."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and inner.value is not None:
                    value = inner.value
                    parts = [value]
                    if isinstance(value, ast.Tuple):
                        parts = value.elts[:1]
                    elif isinstance(value, ast.IfExp):
                        parts = [value.body, value.orelse]
                    found += [text for part in parts if (text := text_of(part))]
    return found


CAPTURE, ROW = CORE / "capture.py", CORE / "capture_row.py"


def ends_of_captures() -> set[str]:
    """Causes of results, as the state machine and the executor write them; not those of cameras."""
    found = [*assigned(CAPTURE, "cause", "refusal"), *returned(ROW, "rivals")]
    for call in calls(AGENTS / "admission.py", "_given_up"):
        found += [text for arg in call.args if (text := text_of(arg))]
    found.append(breaker.describe(breaker.Breaker(5, 1, 9, "timeout"), 7))
    found.append(EXPIRE.keywords["cause"])
    return set(found) - {"revoked: 7"}  # what may be filled in there is a list of its own


def whys_of_revocations() -> set[str]:
    """What a CaptureRevoked may say."""
    found = []
    for path in (CORE / "changes.py", CORE / "facts.py"):
        for call in calls(path, "supersede", "rest", "revoke"):
            found += [text for arg in call.args if (text := text_of(arg))]
    return {one for one in found if one.startswith(("the schedule", "the device"))}


def reasons_of_skips() -> set[str]:
    found = returned(CORE / "misfire.py", "reason_of")
    for call in calls(CORE / "changes.py", "skip", "skip_times"):
        found += [text for arg in call.args if (text := text_of(arg))]
    found += assigned(CORE / "changes.py", "WAITS")
    return set(found)


def test_the_code_was_read():
    """What the tests below go through is what they are meant to go through."""
    ends = ends_of_captures()
    assert len(ends) >= 11, ends
    assert any(one.startswith("overflow: ") for one in ends)
    assert any(one.startswith("shed: ") for one in ends)
    assert len(whys_of_revocations()) == 5
    assert len(reasons_of_skips()) == 7
    assert len(returned(CORE / "step.py", "_end_reason")) == 4


@pytest.mark.parametrize("text", sorted(ends_of_captures()))
def test_each_end_of_a_capture_has_a_reason(text: str):
    assert any(reason_of(state, text) for state in ("REVOKED", "EXPIRED", "FAILED")), text


@pytest.mark.parametrize("why", sorted(whys_of_revocations()))
def test_each_revocation_has_a_reason(why: str):
    assert reason_of("REVOKED", f"revoked: {why}") is not None
    assert reason_of("SKIPPED", f"{why} before this was issued") == Code.CHANGED_BEFORE_ISSUE


@pytest.mark.parametrize("text", sorted(reasons_of_skips()))
def test_each_skip_has_a_reason(text: str):
    assert reason_of("SKIPPED", text) is not None


@pytest.mark.parametrize("text", sorted(returned(CORE / "step.py", "_end_reason")))
def test_each_end_of_a_schedule_has_a_reason(text: str):
    assert reason_of("ENDED", text) is not None


def test_each_cause_of_a_camera_has_words_and_advice():
    """The causes of adapters are a table of theirs; the agents add these of their own."""
    cameras = {word.split("_<", 1)[0] for word in CAUSES}
    assert set(CAMERA_CAUSES) == cameras | {
        *("image", "image_timeout", "quality"),  # connectors/images
        *("store", "store_timeout", "unknown_device"),
    }
    for word, cause in CAMERA_CAUSES.items():
        assert cause.words, word
        assert cause.advice.endswith((".", "?")), word


def test_each_cause_that_is_raised_is_one_of_them():
    found: set[str] = set()
    for folder in ("connectors", "streams", "shutterwheel"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for call in calls(path, "CameraError"):
                text = text_of(call.args[0]) if call.args else None
                if text:
                    found.add(short_word(text))
    assert len(found) > 20
    assert found <= set(CAMERA_CAUSES), found - set(CAMERA_CAUSES)


def test_words_with_a_status_are_taken_together():
    assert short_word("http_503: busy") == "http"
    assert short_word("rtsp_454") == "rtsp"
    assert short_word("http_snapshot") == "http_snapshot"
    assert reason_of("FAILED", "http_503: busy (attempt 4 of 4)") == Code.FAILED


def test_what_no_release_of_ours_writes_has_no_reason():
    for where in BEGINS:
        assert reason_of(where, "the moon was in the way") is None
