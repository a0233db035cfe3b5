"""From the text on a record to a reason: causes of results, reasons of Skipped, Ended and pauses.

The core and the agents write sentences for people; what they begin with, or hold, says which reason
it is. That each sentence of the code is found here is a test that reads the code.

:data:`CAMERA_CAUSES` is the same for attempts: the short words of ``CameraError``, with what to do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from streams.replay.explain_reasons import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from schemas.records import CaptureResult


class Cause(NamedTuple):
    """Why one attempt failed."""

    words: str
    advice: str


CAMERA_CAUSES: Final[Mapping[str, Cause]] = {
    "address_not_allowed": Cause(
        "its address is outside of the networks that workers may contact",
        "Allow the network (`--allow NETWORK`) if that is meant.",
    ),
    "auth": Cause(
        "it refused the credentials, or they are not to be had",
        "Check the account on the camera, and what the profile's credentials_ref names.",
    ),
    "bad_address": Cause("its address is no URL that can be used", "Correct the profile."),
    "bad_answer": Cause(
        "it answered something that is not its protocol", "Check address and protocol."
    ),
    "credentials": Cause(
        "the place that keeps its credentials does not answer", "Look after the keyring or vault."
    ),
    "disconnected": Cause(
        "it closed the connection before it answered", "Look at its load, its firmware, the line."
    ),
    "http": Cause("it answered with an HTTP error", "See what the status means for this camera."),
    "image": Cause(
        "the photo came, but could not be worked on", "See the message: its format, what it asks."
    ),
    "image_timeout": Cause(
        "the photo came, but working on it took too long", "Give it more time, or ask for less."
    ),
    "no_transport": Cause(
        "it takes none of the transports that its stream could come over", "Open TCP or UDP to it."
    ),
    "no_video": Cause(
        "its stream has no video that can be read", "Set it to H.264, H.265 or MJPEG."
    ),
    "no_way": Cause("it offers no way to a photo", "`shutterwheel device check` tells the ways."),
    "not_an_image": Cause(
        "what came is no picture (a login page, for instance)", "Open its address in a browser."
    ),
    "quality": Cause(
        "its photo was bad, and such are not kept", "Clean, focus or light the camera."
    ),
    "redirects": Cause("it redirected too often, or where it may not", "Give its final address."),
    "refused": Cause("nothing listens at its address", "Is it on? Has its address changed?"),
    "rtsp": Cause("it answered with an RTSP error", "See what the status means for this camera."),
    "soap_fault": Cause("it answered our SOAP request with a fault", "See the fault's text."),
    "stale": Cause(
        "it sent the same picture as last time", "Its sensor or encoder hangs: reset it."
    ),
    "store": Cause("the photo came, but could not be stored", "Look after the blob store."),
    "store_timeout": Cause("the photo came, but the store took too long", "Look after the store."),
    "timeout": Cause(
        "it hung: no whole picture came within its timeout", "Look at its load, the line."
    ),
    "tls": Cause("its TLS certificate or handshake was not accepted", "Renew its certificate."),
    "too_large": Cause("its answer is longer than is taken", "Lower its resolution or quality."),
    "truncated": Cause("its picture ends before its end", "Look at the line; update its firmware."),
    "undecodable": Cause("its stream is damaged", "Look at the line; try TCP in place of UDP."),
    "unknown_device": Cause(
        "the worker knew of no such device", "`shutterwheel device add` makes it known."
    ),
    "unknown_protocol": Cause("no adapter speaks its profile's protocol", "Correct the profile."),
    "unknown_signature": Cause(
        "no protocol that we know begins as its answer does", "Name its protocol in the profile."
    ),
    "unreachable": Cause(
        "there is no connection: no route, no name, network down", "Look at the network."
    ),
}
"""By the short word; ``http`` and ``rtsp`` stand for theirs with a status."""


def short_word(cause: str) -> str:
    """Return the short word that a cause begins with; ``http_503`` is ``http``."""
    word = re.split(r"[:\s]", cause, maxsplit=1)[0]
    protocol, _, status = word.partition("_")
    return protocol if protocol in {"http", "rtsp"} and status.isdigit() else word


BEGINS: Final[Mapping[str, tuple[tuple[str, Code], ...]]] = {
    "REVOKED": (
        ("revoked: the schedule was cancelled", Code.CANCELLED),
        ("revoked: the schedule was changed", Code.CHANGED),
        ("revoked: the schedule was paused: its device fails", Code.AUTO_PAUSED),
        ("revoked: the schedule was paused", Code.PAUSED),
        ("revoked: the device's place has changed", Code.PLACE_CHANGED),
        ("revoked: the tz data have changed", Code.TZ_CHANGED),
        ("superseded: ", Code.SUPERSEDED),
        ("overflow: ", Code.OVERFLOW),
        ("overlap", Code.OVERLAP),
    ),
    "EXPIRED": (
        ("late: it arrived", Code.ARRIVED_LATE),
        ("late: the shutter could not open", Code.SHUTTER_LATE),
        ("late: not_after passed while its worker was lost", Code.LOST_AND_LATE),
        ("late: not_after passed", Code.ARMED_LATE),
        ("shed: ", Code.SHED),
        ("breaker_open: ", Code.BREAKER_OPEN),
    ),
    "FAILED": (
        ("worker lost", Code.WORKER_LOST),
        ("unknown_device", Code.DEVICE_UNKNOWN),
        ("quality", Code.BAD_PHOTO),
    ),
    "SKIPPED": (
        ("misfire: not issued in time; the schedule makes up for none", Code.MISFIRE_SKIP),
        ("misfire: not issued in time nor within", Code.MISFIRE_WINDOW),
        ("misfire: not issued in time; only the", Code.MISFIRE_OTHER),
        ("paused when its time came", Code.PAUSED),
        ("waits for the device's place", Code.PLACE_UNKNOWN),
        ("the tz data have changed", Code.TZ_CHANGED),
    ),
    "ENDED": (
        ("it was due", Code.COUNT_REACHED),
        ("its validity is over", Code.VALIDITY_OVER),
        ("its time is over", Code.TIME_OVER),
        ("it has no further time", Code.NO_FURTHER_TIME),
    ),
}
"""What a text begins with, by where it stands; the longer ones first."""


def reason_of(where: str, text: str) -> Code | None:
    """Return the reason that a text is, standing in a result of this state, or a decision.

    Null: it is none that this release writes.
    """
    if where == "SKIPPED" and " before this was issued" in text:
        return Code.CHANGED_BEFORE_ISSUE
    for begin, code in BEGINS[where]:
        if text.startswith(begin):
            return code
    return Code.FAILED if where == "FAILED" and short_word(text) in CAMERA_CAUSES else None


LATE_MS: Final = 1_000
"""A photo whose shutter opened later than this after its time is called late."""


def reason_of_result(result: CaptureResult) -> Code | None:
    """Return the reason of a result; null as in :func:`reason_of`."""
    if result.state != "SUCCESS":
        return reason_of(result.state, result.cause)
    if result.cause == "recovered":
        return Code.PHOTO_RECOVERED
    shutter_ms = result.shutter_at_ms
    if shutter_ms is not None and shutter_ms - result.scheduled_ms > LATE_MS:
        return Code.PHOTO_LATE
    return Code.PHOTO_THERE


def attempt_words(cause: str) -> str:
    """Return what the failure of one attempt means; empty where its word is not known."""
    found = CAMERA_CAUSES.get(short_word(cause))
    return "" if found is None else found.words


def attempt_advice(cause: str) -> str:
    """Return what to do about the failure of an attempt; empty where its word is not known."""
    found = CAMERA_CAUSES.get(short_word(cause))
    return "" if found is None else found.advice
