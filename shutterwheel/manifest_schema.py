"""The JSON Schema of manifests: what editors complete and underline.

``shutterwheel schedule schema`` prints it, and it stands in ``shutterwheel/manifest.schema.json``.
A YAML file names it in its first lines::

    # yaml-language-server: $schema=…/manifest.schema.json

It knows the keys, their shapes and their bounds. What hangs on other values (a phase within its
period, an id that stands twice, a cron line that never fires) only the parser finds: the schema
refuses nothing that the parser takes (a test holds it to that), and not all that it refuses.

Draft 7, as that is what editors know best.
"""

from __future__ import annotations

from typing import Any, Final

from connectors.clients.events import PROTOCOLS
from connectors.images import request
from shutterwheel import manifest, manifest_keys
from streams.core import schedule
from streams.core.recurrence.zones import zone_names

Json = dict[str, Any]

DURATION_PATTERN: Final = r"^\s*([0-9]{1,12}(\.[0-9]{1,9})?\s*(ms|s|min|m|h|d)\s*)+$"
MOMENT_PATTERN: Final = (
    r"^\s*[0-9]{4}-?([0-9]{2}-?[0-9]{2}|W[0-9]{2}-?[0-9]|[0-9]{3})[Tt ][0-9]{2}.*"
    r"(Z|[+-][0-9]{2}(:?[0-9]{2})?(:?[0-9]{2})?(\.[0-9]+)?)\s*$"
)
SUN_PATTERN: Final = r"^\s*(dawn|sunrise|noon|sunset|dusk)\s*([+-].+)?$"
WINDOW_PATTERN: Final = r"^.+\.\..+$"

SCALAR: Final[Json] = {"type": ["string", "number", "boolean"]}
"""Text; a number or a truth value is read as it is written."""


def schema() -> Json:
    """Return the schema, in the order in which a file is written."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "shutterwheel manifest",
        "description": "Devices and schedules; `shutterwheel schedule apply FILE` publishes them.",
        "type": "object",
        "required": ["version"],
        "anyOf": [{"required": ["schedules"]}, {"required": ["devices"]}],
        "properties": _described(_TOP, manifest.TOP),
        "additionalProperties": False,
        "definitions": {
            "duration": {
                "type": "string",
                "pattern": DURATION_PATTERN,
                "examples": ["300ms", "5s", "1h30m", "1d"],
            },
            "moment": {
                "type": "string",
                "pattern": MOMENT_PATTERN,
                "examples": ["2026-12-01T08:00:00+01:00", "2026-12-01T07:00:00Z"],
            },
            "days": {
                "type": "string",
                "pattern": f"^{manifest_keys.DAYS_PATTERN}$",
                "examples": ["2026-12-25", "2026-12-24..2027-01-02"],
            },
            "zone": {"enum": sorted(zone_names())},
            "device": _object(_DEVICE, manifest.DEVICE, required=["id", "address"]),
            "group": {**_object(_GROUP, manifest.GROUP), "minProperties": 1},
            "term": {
                **_object(_TERM, manifest_keys.TERM),
                "oneOf": [{"required": [key]} for key in manifest_keys.TERMS],
                "dependencies": {"phase": ["every"]},
            },
            "exclusion": {
                **_object(_EXCLUSION, manifest_keys.EXCLUSION),
                "minProperties": 1,
            },
            "schedule": {
                **_object(_SCHEDULE, manifest.SCHEDULE, required=["id"]),
                "allOf": [
                    {"oneOf": [{"required": [key]} for key in ("device", "devices")]},
                    {"oneOf": [{"required": [key]} for key in manifest_keys.TERMS]},
                ],
                "dependencies": {"phase": ["every"]},
            },
        },
    }


def _object(parts: Json, keys: tuple[str, ...], required: list[str] | None = None) -> Json:
    found = {
        "type": "object",
        "properties": _described(parts, keys),
        "additionalProperties": False,
    }
    return found | ({"required": required} if required else {})


def _described(parts: Json, keys: tuple[str, ...]) -> Json:
    """Return the properties in the order of the parser's keys: none is forgotten."""
    return {key: parts[key] for key in keys}


def _text(description: str, **more: object) -> Json:
    return {**SCALAR, "description": description, **more}


def _words(description: str, words: tuple[str, ...]) -> Json:
    return {"type": "string", "description": description, "enum": list(words)}


def _duration(description: str, *examples: str) -> Json:
    return {
        "allOf": [{"$ref": "#/definitions/duration"}],
        "description": description,
        **({"examples": list(examples)} if examples else {}),
    }


def _moment(description: str) -> Json:
    return {"allOf": [{"$ref": "#/definitions/moment"}], "description": description}


def _number(description: str, low: int, high: int) -> Json:
    return {
        "type": ["integer", "string"],
        "minimum": low,
        "maximum": high,
        "pattern": "^[0-9]{1,9}$",
        "description": description,
    }


def _degrees(description: str, bound: int) -> Json:
    return {
        "type": ["number", "string"],
        "minimum": -bound,
        "maximum": bound,
        "pattern": r"^[+-]?[0-9]{1,3}(\.[0-9]{1,15})?$",
        "description": description,
    }


def _list(reference: str, description: str) -> Json:
    items = {"$ref": f"#/definitions/{reference}"}
    return {"type": "array", "items": items, "description": description}


_LABELS: Final[Json] = {
    "type": "object",
    "additionalProperties": SCALAR,
    "description": 'Keys and values, such as {line: "3"}.',
}
_POLICY: Final[Json] = {
    "lead": _duration("How long before its time a command is issued; default 5s.", "5s"),
    "timeout": _duration("From the shutter over all I/O of one attempt; default 3s.", "3s"),
    "catch_up": _duration("How late a photo is still wanted; default one period, or 60s.", "10m"),
    "spread": _duration("Window over which devices of one time are spread; default none.", "1m"),
    "jitter": _duration("Window of an offset that differs from time to time; default none.", "5s"),
    "tolerance": _duration("How far a crowded time may be moved forward; default not.", "30s"),
    "deadline": _duration("How long after its time no photo is wanted any more.", "1m"),
    "keep": _duration("How long after its time a photo is kept; default for ever.", "30d"),
    "image": {
        "type": "string",
        "description": "What is done with a photo's bytes: " + ", ".join(request.KNOWN) + ".",
        "examples": ["label", "label width=1280 quality=80"],
    },
    "priority": _number("0 to 9, the most urgent 9; default 0.", 0, schedule.MAX_PRIORITY),
    "pause_after_failures": _number(
        "Pause after so many failures of the device in a row; default 0: never.", 0, 999_999_999
    ),
    "misfire": _words(
        "Which late times are made up for; default latest.", manifest_keys.WORDS["misfire"]
    ),
    "overlap": _words(
        "When the last photo of the schedule is not done yet; default allow.",
        manifest_keys.WORDS["overlap"],
    ),
    "quality": _words(
        "What becomes of a blurred, covered, over- or underexposed photo; default off.",
        manifest_keys.WORDS["quality"],
    ),
}
_ZONE: Final[Json] = {
    "allOf": [{"$ref": "#/definitions/zone"}],
    "description": "IANA time zone of cron, rrule and exclude, such as Europe/Paris; default UTC.",
}
_TERM: Final[Json] = {
    "every": _duration("So often: phase + n * every since 1970, UTC.", "5s", "5m", "1h"),
    "phase": _duration("Moves the times of 'every'; less than one period.", "30s"),
    "at": _moment("At one time, with its zone."),
    "cron": {
        "type": "string",
        "description": "Five fields, or six with seconds first; names, L W #, @daily.",
        "examples": ["*/5 6-20 * * *", "0 30 8 * * MON-FRI", "@hourly"],
    },
    "rrule": {
        "type": "string",
        "description": "A calendar rule (RFC 5545), FREQ from SECONDLY to YEARLY; its start is"
        " DTSTART, else 'from'. Lines EXDATE and RDATE take times out and add some.",
        "pattern": "FREQ=|freq=",
        "examples": [
            "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=17;BYMINUTE=0;BYSECOND=0",
            "FREQ=MINUTELY;INTERVAL=25;BYHOUR=6,7,8",
            "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        ],
    },
    "sun": {
        "type": "string",
        "description": "An event of the sun at the device's place, with an offset.",
        "pattern": SUN_PATTERN,
        "examples": ["sunrise", "sunrise+30m", "noon", "sunset-1h", "dawn", "dusk"],
    },
}
_EXCLUSION: Final[Json] = {
    "dates": _list("days", "On these days."),
    "weekdays": {
        "type": "string",
        "description": "On these days of the week.",
        "examples": ["sat,sun", "mon-fri"],
    },
    "hours": {
        "type": "string",
        "description": "Within these times of day, the end not included.",
        "examples": ["22:00-06:00", "12:00-13:00,18:00-19:00"],
    },
    "calendar": _text("On the days of a calendar of this file."),
}
_SCHEDULE: Final[Json] = {
    "id": _text("Name of the schedule, of its own for each device."),
    "device": _text("For one device."),
    "devices": {
        "description": (
            'For these devices; "*": every device of this file; all: every device that is known '
            "when the file is applied; {labels, site, model}: those of them that fit."
        ),
        "anyOf": [
            {"enum": [manifest.ALL, manifest.EVERYTHING]},
            {"type": "array", "items": SCALAR},
            {"$ref": "#/definitions/group"},
        ],
    },
    **_TERM,
    "zone": _ZONE,
    "also": _list("term", "Further times; one that several have is one."),
    "exclude": {
        "type": "array",
        "description": "What is left out: days, calendars of this file, weekdays and hours.",
        "items": {"anyOf": [SCALAR, {"$ref": "#/definitions/exclusion"}]},
    },
    "from": _moment("No time before it."),
    "until": _moment("No time at or after it."),
    "count": _number("Ends after so many times.", 1, 999_999_999),
    "daylight": {
        "type": "string",
        "description": "Only within this window of the sun, at the device's place.",
        "pattern": WINDOW_PATTERN,
        "examples": ["sunrise..sunset", "sunrise-30m..sunset+30m", "sunset..sunrise"],
    },
    **_POLICY,
}
_GROUP: Final[Json] = {
    "labels": {**_LABELS, "description": "Devices that have all of these labels."},
    "site": _text("Devices of this site."),
    "model": _text("Devices of this model."),
}
_DEVICE: Final[Json] = {
    "id": _text("Name of the device."),
    "address": {"type": "string", "description": "URL, without credentials."},
    "protocol": _words("How it is spoken to; default http-snapshot.", PROTOCOLS),
    "model": _text("Make and model."),
    "site": _text("Where it stands."),
    "labels": _LABELS,
    "credentials": {
        "type": "string",
        "description": "Where workers find them: env:NAME, file:NAME or keyring:NAME.",
        "pattern": "^(env|file)(:|$)",
    },
    "latitude": _degrees("Degrees north, for schedules that follow the sun.", 90),
    "longitude": _degrees("Degrees east.", 180),
}
_TOP: Final[Json] = {
    "version": {"enum": [1, "1"]},
    "owner": _text("Begins the ids of all schedules: NAME/ID. What bears it is this file's."),
    "calendars": {
        "type": "object",
        "description": "Lists of days by name, for 'exclude'.",
        "additionalProperties": {"type": "array", "items": {"$ref": "#/definitions/days"}},
    },
    "defaults": {
        **_object({**_POLICY, "zone": _ZONE}, manifest_keys.DEFAULTS),
        "description": "For every schedule that does not say otherwise.",
    },
    "devices": _list("device", "Profiles to publish."),
    "schedules": _list("schedule", "What is to be photographed, and when."),
}
