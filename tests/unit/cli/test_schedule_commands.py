"""Preview, words, forecast and plans of files, without a cluster (issue 5, 'For people')."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
import tzdata
from typer.testing import CliRunner

from schemas.errors import UsageError
from schemas.records import CapturePolicy, ScheduleSpec
from shutterwheel import manifest
from shutterwheel.cli import app
from shutterwheel.commands import schedule_plan
from shutterwheel.inventory import Compared
from shutterwheel.plan import make_plan
from streams.core.recurrence import TZ_VERSION, compile_spec
from streams.core.times import Times
from tests.unit.core.tz_trees import tree

FILE = """\
version: 1
calendars: {holidays: [2026-12-25]}
devices:
  - {id: cam-1, address: "http://127.0.0.1:8080/x", site: north, latitude: 48.86, longitude: 2.35}
schedules:
  - {id: day, devices: all, every: 5m, daylight: sunrise..sunset}
  - id: night
    devices: [cam-1, cam-2]
    cron: "30 2 * * *"
    zone: Europe/Paris
    spread: 60s
    exclude: [holidays]
  - {id: three, device: cam-2, sun: sunrise+30m, count: 3}
"""
FROM = ("--from", "2026-12-23T22:00:00Z")


@pytest.fixture(autouse=True)
def _file(monkeypatch, tmp_path):
    for name in ("KAFKA", "NAMESPACE", "DATA", "SCHEMA_REGISTRY"):
        monkeypatch.delenv(f"SHUTTERWHEEL_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.yaml").write_text(FILE)


def run(*words: str):
    result = CliRunner().invoke(app, ["schedule", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- preview --------------------------------------------------------------------------------------


def test_a_preview_shows_what_the_fold_would_fire():
    found = lines(run("preview", "m.yaml", "night", *FROM, "--next", "3", "--json"))
    assert [row["local"][:14] for row in found] == [
        "Thu 2026-12-24",
        "Sat 2026-12-26",
        "Sun 2026-12-27",
    ], "the holiday is left out"
    assert {row["zone"] for row in found} == {"Europe/Paris"}
    spec = ScheduleSpec("cron", expression="30 2 * * *", zone="Europe/Paris")
    times = Times(compile_spec(spec), CapturePolicy(spread_ms=60_000), "cam-1")
    assert found[0]["scheduled_ms"] == times.at_or_after(found[0]["nominal_ms"])


def test_a_preview_in_another_zone_and_for_another_device():
    plain = lines(run("preview", "m.yaml", "night", *FROM, "--next", "1", "--json"))
    words = ("--zone", "Asia/Tokyo", "--device", "cam-2", "--next", "1", "--json")
    (other,) = lines(run("preview", "m.yaml", "night", *FROM, *words))
    assert other["nominal_ms"] == plain[0]["nominal_ms"]
    assert other["scheduled_ms"] != plain[0]["scheduled_ms"], "devices are spread"
    assert (other["device_id"], other["local"][-6:]) == ("cam-2", "+09:00")


def test_each_schedule_has_its_own_times_and_a_place_is_asked_for():
    shown = run("preview", "m.yaml", *FROM, "--next", "2")
    assert shown.exit_code == 0
    assert shown.stdout.count("\nday") == 2
    assert shown.stdout.count("\nnight") == 2
    assert "three of cam-2: it waits for the device's place" in shown.stderr


def test_a_count_is_kept_to(tmp_path):
    (tmp_path / "m.yaml").write_text(FILE.replace("device: cam-2, sun", "device: cam-1, sun"))
    assert len(lines(run("preview", "m.yaml", "three", *FROM, "--json"))) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("m.yaml", "dusk"), 1, "m.yaml has no schedule 'dusk'."),
        (("m.yaml", "night", "--device", "cam-9"), 1, "no schedule 'night' for 'cam-9'"),
        (("m.yaml", "--zone", "Europe/Pari"), 2, "did you mean 'Europe/Paris'?"),
        (("m.yaml", "--from", "noon"), 2, "--from is 'noon'; expected an ISO 8601 time"),
        (("none.yaml",), 2, "none.yaml cannot be read"),
        (("cam-1",), 2, "No cluster is known here"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_line(words, code, said):
    result = run("preview", *words)
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_schedule_of_an_owner_may_be_named_as_it_is_written(tmp_path):
    (tmp_path / "m.yaml").write_text(FILE.replace("calendars:", "owner: north\ncalendars:", 1))
    for name in ("night", "north/night"):
        (found,) = lines(run("preview", "m.yaml", name, *FROM, "--next", "1", "--json"))
        assert found["schedule_id"] == "north/night"


# --- pruning ------------------------------------------------------------------------------------


def test_many_removals_are_asked_for(monkeypatch):
    """Few are not; many want a yes, from somebody who can give it."""
    schedule_plan._ask(10, yes=False, can_ask=False)
    schedule_plan._ask(1_000, yes=True, can_ask=False)
    with pytest.raises(UsageError, match="11 schedules would be removed"):
        schedule_plan._ask(11, yes=False, can_ask=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    with pytest.raises(UsageError, match="11 schedules would be removed"):
        schedule_plan._ask(11, yes=False, can_ask=False)
    monkeypatch.setattr(typer, "confirm", lambda *_, **_more: True)
    schedule_plan._ask(11, yes=False, can_ask=True)
    monkeypatch.setattr(typer, "confirm", lambda *_, **_more: False)
    with pytest.raises(UsageError, match="Nothing was published"):
        schedule_plan._ask(11, yes=False, can_ask=True)

    def aborted(*_, **_more) -> bool:
        raise typer.Abort

    monkeypatch.setattr(typer, "confirm", aborted)
    with pytest.raises(KeyboardInterrupt):
        schedule_plan._ask(11, yes=False, can_ask=True)


# --- words ----------------------------------------------------------------------------------------


def test_schedules_are_explained_in_words():
    shown = run("explain-schedule", "m.yaml")
    assert shown.exit_code == 0
    assert "day (cam-1): every 5 minutes from sunrise to sunset" in shown.stdout
    assert "night (cam-1 and 1 more): at 02:30 every day, except" in shown.stdout
    assert "holidays" in shown.stdout
    assert "note: It hangs on the sun" in shown.stdout
    rows = lines(run("explain-schedule", "m.yaml", "--json"))
    assert [row["devices"] for row in rows] == [1, 2, 1]
    assert all(row["words"] for row in rows)
    assert rows[2]["next_ms"] is None


def test_a_warning_is_said_when_a_file_is_applied_where_it_stands():
    dry = run("apply", "m.yaml", "--dry-run")
    assert dry.exit_code == 0
    assert "warning: m.yaml:9:11: schedule 'night': " in dry.stderr
    assert "does not exist" in dry.stderr
    assert "m.yaml:13:37: schedule 'three': It hangs on the sun" in dry.stderr
    assert "(1 of 1 devices)" in dry.stderr


# --- forecast -------------------------------------------------------------------------------------

HERD = """\
version: 1
schedules:
  - {id: all-at-once, devices: [%s], cron: "0 * * * *"}
  - {id: steady, devices: [a, b], every: 10s}
"""


@pytest.fixture
def herd(tmp_path):
    devices = ", ".join(f"cam-{n}" for n in range(400))
    (tmp_path / "herd.yaml").write_text(HERD % devices)


@pytest.mark.usefixtures("herd")
def test_a_forecast_counts_what_is_to_come():
    words = ("--from", "2026-12-01T00:00:00Z", "--for", "2h", "--by", "1h", "--capacity", "1")
    result = run("forecast", "herd.yaml", *words, "--json")
    assert "no cluster is known here; the file is looked at alone" in result.stderr
    (found,) = lines(result)
    after = found["after"]
    assert "now" not in found
    assert after["captures"] == 2 * 400 + 2 * 720
    assert (after["peak_per_second"], after["peaks"]) == (402, [402, 402])
    assert after["means"] == [round((400 + 720) / 3_600, 3)] * 2
    assert after["causes"][0]["captures"] == 400
    assert after["causes"][0]["example"] == "all-at-once"
    spreads = [(one["spread_ms"], one["peak_per_second"]) for one in after["with_spread"]]
    assert spreads[0][0] == 10_000
    assert 40 <= spreads[0][1] <= 70
    assert [peak for _, peak in spreads] == sorted({peak for _, peak in spreads}, reverse=True)
    assert after["herd"]["wait_s"] >= 1


@pytest.mark.usefixtures("herd")
def test_a_forecast_is_drawn(tmp_path):
    result = run("forecast", "herd.yaml", "--for", "2h", "--png", "load.png")
    assert result.exit_code == 0
    assert "█" in result.stdout
    assert "400 of 402: at minute 0" in result.stdout
    assert "drawn in load.png" in result.stdout
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    failed = run("forecast", "herd.yaml", "--for", "2h", "--png", "no/load.png")
    assert (failed.exit_code, "no/load.png cannot be written" in failed.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "No cluster is known here"),
        (("m.yaml", "--for", "8d"), "--for 8d is"),
        (("m.yaml", "--by", "100ms"), "--by 100ms: expected 1s at least"),
        (("m.yaml", "--by", "2h", "--for", "1h"), "--by 2h: expected"),
        (("m.yaml", "--kafka", "nonsense"), "nonsense"),
    ],
)
def test_a_forecast_that_cannot_be_made(words, said):
    result = run("forecast", *words)
    assert result.exit_code in {1, 2}
    assert said in result.stderr
    assert "Traceback" not in result.stderr


# --- tz data to come ------------------------------------------------------------------------------


def newer(folder, offset_s: int):
    """A folder as `pip install --target` makes it, in which the clock of Paris is another one."""
    tree(folder, "tzdata", {"Europe/Paris": (offset_s, []), "UTC": (0, [])})
    (folder / "tzdata" / "__init__.py").write_text('IANA_VERSION = "2099z"\n')
    return str(folder)


def test_what_other_tz_data_would_move_is_said_before_they_are_there(tmp_path):
    (found,) = lines(run("tz", "m.yaml", "--tz", newer(tmp_path, 5 * 3_600), "--json"))
    assert (found["tz_version"], found["tz_version_to_come"]) == (TZ_VERSION, "2099z")
    (moved,) = found["zones"]
    assert (moved["zone"], moved["offset_ms"]) == ("Europe/Paris", 5 * 3_600_000)
    (schedule,) = found["schedules"]
    assert (schedule["schedule_id"], schedule["devices"]) == ("night", 2)
    moved_ms = schedule["was_ms"] - schedule["is_ms"]
    assert moved_ms % 3_600_000 == 0
    assert moved_ms
    words = run("tz", "m.yaml", "--tz", str(tmp_path)).stdout
    assert "Europe/Paris" in words
    assert "+05:00" in words
    assert "night" in words


def test_the_same_tz_data_move_nothing(tmp_path):
    here = str(Path(tzdata.__file__).parents[1])
    assert "No clock of a zone in use differs" in run("tz", "m.yaml", "--tz", here).stdout
    (found,) = lines(run("tz", "m.yaml", "--tz", here, "--json"))
    assert (found["zones"], found["schedules"]) == ([], [])


def test_a_folder_without_tz_data_is_wrong_use(tmp_path):
    found = run("tz", "m.yaml", "--tz", str(tmp_path))
    assert found.exit_code == 2
    assert "pip install --target" in found.stderr


def test_a_plan_says_the_suns_times_at_the_devices_place(capsys):
    """The place stands in the very file: it is known."""
    asked, _ = manifest.load(Path("m.yaml")).expand()
    plan = make_plan(asked, (), (), 0)
    found = Compared(asked, plan, (), ())
    schedule_plan.show_plan(found, prune=False, as_json=False)
    shown = capsys.readouterr().out
    assert "at 48.86, 2.35" in shown
    assert "cam-2" in shown
