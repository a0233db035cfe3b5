"""The check fails on a change that would make a topic unreadable (issue 3 point 3)."""

from __future__ import annotations

import copy

import pytest

from schemas import compatibility
from schemas.catalogue import current_schemas, read_schema, released_schemas
from schemas.compatibility import check, has_empty_items, main, release, unreadable, unreleased
from schemas.errors import SchemaError

CURRENT = current_schemas()
NAME = "shutterwheel.Thing"
THING = {
    "type": "record",
    "name": "Thing",
    "namespace": "shutterwheel",
    "doc": "A thing.",
    "fields": [
        {"name": "id", "type": "string", "doc": "Its id.", "unit": "1"},
        {"name": "count", "type": "long", "doc": "How many.", "unit": "1"},
        {"name": "size", "type": ["null", "long"], "default": None, "doc": "Big.", "unit": "1"},
        {"name": "colour", "type": {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}},
        {
            "name": "parts",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Part",
                    "fields": [{"name": "weight", "type": "long"}],
                },
            },
        },
        {"name": "spare", "type": ["null", "Part"], "default": None},
        {"name": "labels", "type": {"type": "map", "values": "long"}, "default": {}},
        {"name": "code", "type": {"type": "fixed", "name": "Code", "size": 4}},
    ],
}


def changed(change):
    """THING after ``change`` was made to its fields, by name."""
    schema = copy.deepcopy(THING)
    fields = {field["name"]: field for field in schema["fields"]}
    change(fields)
    return {**schema, "fields": list(fields.values())}


def colour(fields, **values):
    fields["colour"]["type"].update(values)


def part(fields, change):
    change(fields["parts"]["type"]["items"]["fields"])


BREAKING = {
    "field without a default removed": (lambda f: f.pop("count"), "count", "no default"),
    "field without a default added": (
        lambda f: f.update(new={"name": "new", "type": "long"}),
        "new",
        "no default",
    ),
    "field renamed": (lambda f: f["count"].update(name="number"), "number", "no default"),
    "long to string": (lambda f: f["count"].update(type="string"), "count", "read as string"),
    "long to double": (lambda f: f["count"].update(type="double"), "count", "double cannot"),
    "long to int": (lambda f: f["count"].update(type="int"), "count", "long cannot"),
    "branch of a union removed": (lambda f: f["size"].update(type=["null"]), "size", "not one of"),
    "union to its type": (
        lambda f: f["size"].update(type="long", default=0),
        "size",
        "null cannot",
    ),
    "branch of a union added": (
        lambda f: f["size"].update(type=["null", "long", "string"]),
        "size",
        "string is not one of",
    ),
    "symbol of an enum removed": (lambda f: colour(f, symbols=["RED"]), "colour", "lacks BLUE"),
    "symbol of an enum added": (
        lambda f: colour(f, symbols=["RED", "BLUE", "GREEN"]),
        "colour",
        "lacks GREEN",
    ),
    "enum renamed": (lambda f: colour(f, name="Color"), "colour", "is called"),
    "nested field added without a default": (
        lambda f: part(f, lambda fields: fields.append({"name": "x", "type": "long"})),
        "parts[].x",
        "no default",
    ),
    "nested type changed, seen through a union": (
        lambda f: part(f, lambda fields: fields[0].update(type="string")),
        "spare.weight",
        "cannot be read",
    ),
    "array to map": (
        lambda f: f["parts"].update(
            type={"type": "map", "values": "long"} if f.pop("spare") else None
        ),
        "parts",
        "cannot be read",
    ),
    "values of a map changed": (
        lambda f: f["labels"].update(type={"type": "map", "values": "string"}),
        "labels{}",
        "cannot be read",
    ),
    "fixed resized": (lambda f: f["code"]["type"].update(size=8), "code", "size"),
}


HARMLESS = {
    "nothing": lambda _: None,
    "field with a default added": lambda f: f.update(
        new={"name": "new", "type": "long", "default": 7}
    ),
    "field with a default removed": lambda f: f.pop("size"),
    "fields reordered": lambda f: f.update(id=f.pop("id")),
    "doc, unit and default changed": lambda f: f["labels"].update(
        doc="Other.", unit="ms", default={"a": 1}
    ),
    "nested field with a default added": lambda f: part(
        f, lambda fields: fields.append({"name": "x", "type": "string", "default": ""})
    ),
    "default of an enum added": lambda f: colour(f, default="RED"),
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_breaking_change_is_found_and_named(name):
    change, field, said = BREAKING[name]
    findings = check({NAME: changed(change)}, {NAME: {1: THING}})
    matching = [f for f in findings if f.field == field and said in f.problem]
    assert matching, findings
    text = str(matching[0])
    assert text.startswith(f"shutterwheel.Thing.{field}: ")
    assert "release 1" in text
    assert matching[0].advice in text


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_change_passes(name):
    assert check({NAME: changed(HARMLESS[name])}, {NAME: {1: THING}}) == []


def test_both_directions_are_checked():
    removed = changed(BREAKING["field without a default removed"][0])
    assert unreadable(reader=removed, writer=THING) == []
    assert [p.field for p in unreadable(reader=THING, writer=removed)] == ["count"]


def test_the_check_is_transitive():
    """A change in two steps, each compatible with the one before, is found against the first."""
    with_default = changed(lambda f: f.update(n={"name": "n", "type": "long", "default": 1}))
    as_text = changed(lambda f: f.update(n={"name": "n", "type": "string", "default": ""}))
    assert check({NAME: as_text}, {NAME: {2: THING}}) == []
    findings = check({NAME: as_text}, {NAME: {1: with_default, 2: THING}})
    assert {(f.release, f.field) for f in findings} == {(1, "n")}


def test_a_released_record_that_is_gone_is_found():
    (finding,) = check({}, {NAME: {1: THING}})
    assert "no schema any more" in str(finding)


def test_a_renamed_record_is_found():
    renamed = {**THING, "name": "Gadget"}
    assert "is called" in str(check({NAME: renamed}, {NAME: {1: THING}})[0])


def test_recursive_schemas_end():
    """A registry may hold a schema that refers to itself."""
    tree = {
        "type": "record",
        "name": "Tree",
        "fields": [{"name": "children", "type": {"type": "array", "items": "Tree"}}],
    }
    assert unreadable(reader=tree, writer=copy.deepcopy(tree)) == []
    assert not has_empty_items({**tree, "fields": [*tree["fields"], {"name": "n", "type": "long"}]})


@pytest.mark.parametrize(
    ("items", "empty"),
    [
        ("null", True),
        ({"type": "record", "name": "E", "fields": []}, True),
        ({"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}, True),
        ({"type": "fixed", "name": "F", "size": 0}, True),
        ("string", False),
        (["null", "long"], False),
        ({"type": "array", "items": "null"}, True),
        ({"type": "record", "name": "E", "fields": [{"name": "n", "type": "long"}]}, False),
    ],
)
def test_empty_items_are_found(items, empty):
    fields = [{"name": "a", "type": {"type": "array", "items": items}}]
    assert has_empty_items({"type": "record", "name": "R", "fields": fields}) == empty


def test_the_schemas_as_they_are_pass_and_are_released():
    """The gate itself: fails when a schema was changed incompatibly, or not released."""
    released = released_schemas()
    assert check(CURRENT, released) == []
    assert unreleased(CURRENT, released) == [], "run `python -m schemas.compatibility release`"


def test_the_gate_fails_on_a_real_record_changed():
    """Not only on a made-up one: today's CaptureCommand without its deadline."""
    name = "shutterwheel.CaptureCommand"
    broken = copy.deepcopy(CURRENT[name])
    broken["fields"] = [f for f in broken["fields"] if f["name"] != "not_after_ms"]
    findings = check({**CURRENT, name: broken}, released_schemas())
    assert {(f.record, f.field) for f in findings} == {(name, "not_after_ms")}


def test_a_release_freezes_what_differs_and_nothing_else(tmp_path):
    first, findings = release({NAME: THING}, tmp_path)
    assert (first, findings) == ([tmp_path / "Thing" / "1.avsc"], [])
    assert read_schema(first[0]) == THING
    assert release({NAME: THING}, tmp_path) == ([], [])
    described = changed(lambda f: f["id"].update(doc="Its own id."))
    assert release({NAME: described}, tmp_path) == ([], [])
    grown = changed(HARMLESS["field with a default added"])
    second, _ = release({NAME: grown}, tmp_path)
    assert second == [tmp_path / "Thing" / "2.avsc"]
    assert released_schemas(tmp_path)[NAME] == {1: THING, 2: grown}


def test_nothing_is_released_that_does_not_pass(tmp_path):
    release({NAME: THING}, tmp_path)
    written, findings = release({NAME: changed(lambda f: f.pop("count"))}, tmp_path)
    assert written == []
    assert findings
    assert list((tmp_path / "Thing").iterdir()) == [tmp_path / "Thing" / "1.avsc"]


def test_the_command_line_says_what_is_wrong_and_exits_1(monkeypatch, capsys):
    assert main(["check"]) == 0
    broken = copy.deepcopy(CURRENT)
    broken["shutterwheel.DeviceOnline"]["fields"][1]["type"] = "string"
    monkeypatch.setattr(compatibility, "current_schemas", lambda: broken)
    assert main(["check"]) == 1
    captured = capsys.readouterr()
    assert "shutterwheel.DeviceOnline.at_ms: long cannot be read as string" in captured.err
    assert "shutterwheel.DeviceOnline: differs from its newest release" in captured.out


def test_a_damaged_release_is_one_clear_line(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "Thing"
    folder.mkdir()
    (folder / "1.avsc").write_text("{")
    with pytest.raises(SchemaError, match=r"1\.avsc"):
        released_schemas(tmp_path)
    (folder / "1.avsc").rename(folder / "one.avsc")
    with pytest.raises(SchemaError, match="named by its number"):
        released_schemas(tmp_path)
    with pytest.raises(SchemaError, match="not a valid Avro record schema"):
        unreadable(reader=THING, writer={"type": "record", "name": "x", "fields": [{"name": "a"}]})
    monkeypatch.setattr(compatibility, "released_schemas", lambda: released_schemas(tmp_path))
    assert main(["check"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
