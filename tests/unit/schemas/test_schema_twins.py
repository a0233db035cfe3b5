"""Every record class and its .avsc file say the same (SPEC 1.9)."""

from __future__ import annotations

import types
import typing

import msgspec
import pytest

from schemas import records
from schemas.catalogue import AVRO_DIR, current_schemas, definitions, full_name, self_contained
from schemas.errors import SchemaError
from schemas.records import RECORDS, Record

CLASSES = [
    value
    for value in vars(records).values()
    if isinstance(value, type) and issubclass(value, Record) and value is not Record
]
UNITS = {"ms", "bytes", "px", "1"}
PRIMITIVES = {int: "long", str: "string", float: "double", bool: "boolean", bytes: "bytes"}


def avro_type(hint):
    """The Avro type that stands for a Python annotation."""
    if hint in PRIMITIVES:
        return PRIMITIVES[hint]
    if hint is type(None):
        return "null"
    if isinstance(hint, type) and issubclass(hint, Record):
        return full_name(hint)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        branches = [avro_type(argument) for argument in arguments]
        return sorted(branches, key=lambda branch: branch != "null")
    if origin is tuple:
        return {"type": "array", "items": avro_type(arguments[0])}
    assert (origin, arguments[0]) == (dict, str)
    return {"type": "map", "values": avro_type(arguments[1])}


def expected_default(field, hint):
    """The default that the .avsc must have, as a list of none or one."""
    if type(None) in typing.get_args(hint):
        return [None]
    if field.default_factory is not msgspec.NODEFAULT:
        return [field.default_factory()]
    if field.default is msgspec.NODEFAULT:
        return []
    return [list(field.default) if isinstance(field.default, tuple) else field.default]


def test_there_is_a_file_for_each_class_and_no_other():
    assert {path.stem for path in AVRO_DIR.glob("*")} == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_fields_types_and_defaults_are_the_same_in_the_same_order(cls):
    """SPEC 1.9: everything moves as Avro; the typed record is its twin."""
    hints = typing.get_type_hints(cls)
    expected = [
        (field.name, avro_type(hints[field.name]), expected_default(field, hints[field.name]))
        for field in msgspec.structs.fields(cls)
    ]
    fields = definitions()[full_name(cls)]["fields"]
    found = [(f["name"], f["type"], [f["default"]] if "default" in f else []) for f in fields]
    assert found == expected
    if not cls.__struct_defaults__:
        return
    # A Python default that is not None is the .avsc's, and a None one is a nullable field.
    for field in msgspec.structs.fields(cls):
        if field.default is None:
            assert type(None) in typing.get_args(hints[field.name]), field.name


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_type_and_field_has_a_doc_and_every_field_a_unit(cls):
    schema = definitions()[full_name(cls)]
    assert schema["doc"].endswith(".")
    for field in schema["fields"]:
        assert field["doc"].endswith("."), field["name"]
        assert field["unit"] in UNITS, field["name"]
        for unit in UNITS - {"1"}:
            assert field["name"].endswith(f"_{unit}") == (field["unit"] == unit), field["name"]


def test_a_self_contained_schema_defines_each_type_once_and_before_its_use():
    schema = current_schemas()["shutterwheel.ScheduleTick"]
    text = str(schema)
    for name in ("TickSettings", "TickChange", "ScheduleUpserted", "CapturePolicy"):
        assert text.count(f"'name': '{name}'") == 1
    assert text.index("'name': 'CapturePolicy'") < text.index("'shutterwheel.CapturePolicy'")


def test_every_record_has_a_current_schema():
    assert set(current_schemas()) == {full_name(cls) for cls in RECORDS}


def test_a_name_that_no_file_defines_is_a_clear_error():
    types_ = {"shutterwheel.A": {"fields": [{"name": "b", "type": "shutterwheel.B"}]}}
    with pytest.raises(SchemaError, match=r"shutterwheel\.A: the type shutterwheel\.B is not"):
        self_contained("shutterwheel.A", types_)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a readable schema file"),
        ('{"type": "enum"}', "expected a JSON object"),
        ('{"type": "record", "name": "Other", "namespace": "shutterwheel"}', "expected the name"),
    ],
)
def test_a_bad_schema_file_is_named(tmp_path, text, said):
    (tmp_path / "Thing.avsc").write_text(text)
    with pytest.raises(SchemaError, match=said) as caught:
        definitions(tmp_path)
    assert "Thing.avsc" in str(caught.value)
