"""The faster start is used where it was prepared, and never needed."""

from __future__ import annotations

import pytest

from infra.kafka.aot import aot_flags, aot_path
from infra.kafka.java import Java


@pytest.fixture
def java(tmp_path, monkeypatch):
    monkeypatch.setenv("SHUTTERWHEEL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "java"
    path.write_text("")
    return Java(path, 25)


def prepare(java):
    aot_path(java).parent.mkdir(parents=True)
    aot_path(java).write_bytes(b"")


def test_where_nothing_was_prepared_there_are_no_flags(java):
    assert aot_flags(java) == ()


def test_what_was_prepared_is_used(java):
    prepare(java)
    assert aot_flags(java)[0] == f"-XX:AOTCache={aot_path(java)}"


def test_an_older_java_does_not_know_the_flags(java):
    prepare(java)
    assert aot_flags(Java(java.path, 24)) == ()


def test_another_java_has_another_file(java, tmp_path):
    other = tmp_path / "other"
    other.write_text("")
    assert aot_path(Java(other, 25)) != aot_path(java)
    assert aot_path(Java(java.path, 26)) != aot_path(java)
