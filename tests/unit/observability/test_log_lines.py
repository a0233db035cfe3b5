"""What a log line looks like, and what never stands in one (SPEC 1.8)."""

from __future__ import annotations

import io
import json
import logging
import warnings
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streams.observability.logs import (
    HIDDEN,
    TALKATIVE,
    configure,
    get_logger,
    is_secret_name,
    scrub_text,
    utc_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Out(io.StringIO):
    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@pytest.fixture
def out() -> Out:
    out = Out()
    configure("captures", "3", stream=out)
    return out


def test_a_line_has_the_fields_that_were_asked_for(out: Out):
    log = get_logger("streams.agents.capture_state")
    log.info("capture ended", device_id="cam-1", schedule_epoch=7, capture_result="SUCCESS")
    (line,) = out.lines()
    datetime.strptime(str(line.pop("ts")), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    assert line == {
        "level": "info",
        "event": "capture ended",
        "app": "captures",
        "worker": "3",
        "logger": "streams.agents.capture_state",
        "device_id": "cam-1",
        "schedule_epoch": 7,
        "capture_result": "SUCCESS",
    }


def test_time_is_utc_with_milliseconds():
    east = timezone(timedelta(hours=8))
    assert utc_text(datetime(2026, 5, 1, 18, 0, 0, 4_999, east)) == "2026-05-01T10:00:00.004Z"


def test_the_standard_library_goes_the_same_way(out: Out):
    logging.getLogger("some.library").info("joined %s", "group")
    try:
        raise OSError("gone")
    except OSError:
        logging.getLogger("some.library").exception("bad")
    first, second = out.lines()
    assert (first["event"], first["logger"], first["app"]) == (
        "joined group",
        "some.library",
        "captures",
    )
    assert second["level"] == "error"
    assert "OSError: gone" in str(second["exception"])


def test_an_exception_is_one_line(out: Out):
    try:
        raise OSError("gone")
    except OSError:
        get_logger("x").exception("bad")
    (line,) = out.lines()
    assert line["level"] == "error"
    assert "OSError: gone" in str(line["exception"])


def test_a_warning_is_a_line(out: Out):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old thing", UserWarning, stacklevel=1)
    assert "old thing" in str(out.lines()[0]["event"])


@pytest.mark.parametrize("name", TALKATIVE)
def test_libraries_talk_only_when_asked(out: Out, name: str):
    logging.getLogger(f"{name}.inner").info("chatter")
    assert out.getvalue() == ""
    logging.getLogger(f"{name}.inner").warning("news")
    assert len(out.lines()) == 1
    configure("captures", "3", "debug", stream=out)
    logging.getLogger(f"{name}.inner").info("chatter")
    assert len(out.lines()) == 2


def test_the_level_counts_and_the_last_call_wins(out: Out):
    log = get_logger("made before")
    later = Out()
    configure("wheel", "0", "warning", stream=later)
    log.info("no")
    log.warning("yes", command_id=2**60)
    assert out.getvalue() == ""
    assert [(line["event"], line["app"], line["command_id"]) for line in later.lines()] == [
        ("yes", "wheel", 2**60)
    ]
    with pytest.raises(ValueError, match="log level"):
        configure("wheel", "0", "loud")


def test_people_get_text_and_pipes_get_json():
    terminal, forced = Out(terminal=True), Out(terminal=True)
    configure("wheel", "0", stream=terminal)
    get_logger("x").info("hello", device_id="cam-1")
    assert "hello" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    configure("wheel", "0", json=True, stream=forced)
    get_logger("x").info("hello")
    assert forced.lines()[0]["event"] == "hello"


@pytest.mark.parametrize("as_json", [True, False])
def test_no_line_shows_a_credential(as_json: bool):
    out = Out()
    configure("captures", "0", json=as_json, stream=out)
    log = get_logger("x", token="hunter2-a")
    log.info(
        "rtsp://admin:hunter2-b@10.0.0.9/live failed",
        password="hunter2-c",
        settings={"sasl.password": "hunter2-d", "deep": [{"Api-Key": "hunter2-e"}]},
        url="http://10.0.0.9/snap?user=admin&pwd=hunter2-f&x=1",
        error=OSError("http://u:hunter2-g@h/"),
        pair=("https://hunter2-h@h/", b"raw"),
        very={"deep": {"deep": {"deep": {"deep": {"deep": {"deep": {"x": "hunter2-i"}}}}}}},
    )
    logging.getLogger("lib").warning("connecting to https://u:%s@h/", "hunter2-j")
    try:
        secret = "hunter2-k"
        raise OSError(f"http://u:{secret}@h/")
    except OSError:
        log.exception("failed")
    text = out.getvalue()
    assert "hunter2" not in text.replace('secret = "hunter2-k"', "")
    assert text.count(HIDDEN) >= 9
    assert "user=admin" in text
    assert "x=1" in text


@given(
    st.text(), st.text(alphabet=st.characters(exclude_characters="/?#", categories=["L", "N", "P"]))
)
def test_a_password_in_a_url_goes_whole(before: str, password: str):
    assert f":{password}@" not in scrub_text(f"{before}rtsp://user:{password}@host/x")[
        len(before) :
    ] or (password == "")


def test_plain_text_stays_as_it_is():
    for text in ("mail a@b", "http://host/a@b", "a = b", "tokens left: 5", "epoch=7", ""):
        assert scrub_text(text) == text


@pytest.mark.parametrize(
    "name", ["password", "SASL.PASSWORD", "ssl.key.password", "Api-Key", "access_token", "jwt"]
)
def test_secret_names(name: str):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["device_id", "credentials_ref", "tokens", "key", "schedule_epoch", "keyboard"]
)
def test_names_that_are_no_secret(name: str):
    assert not is_secret_name(name)
