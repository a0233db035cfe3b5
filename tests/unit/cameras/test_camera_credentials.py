"""Credentials: found where they may be, shown nowhere (connectors/cameras/credentials.py)."""

from __future__ import annotations

import pytest

from connectors.cameras.base import CameraSettings
from connectors.cameras.credentials import Credentials, LocalCredentials
from schemas.errors import CameraError


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "secrets"
    path.mkdir()
    return path


@pytest.fixture
def provider(folder):
    return LocalCredentials(CameraSettings(credential_dir=str(folder)))


def refused(provider, reference):
    with pytest.raises(CameraError) as caught:
        provider.get(reference)
    assert caught.value.cause == "auth"
    assert not caught.value.retry
    assert "pa55" not in str(caught.value)
    return str(caught.value)


def test_a_variable_of_the_right_name_is_read(provider, monkeypatch):
    monkeypatch.setenv("CAMERA_GATE", "admin:pa55:with:colons")
    assert provider.get("env:CAMERA_GATE") == Credentials("admin", "pa55:with:colons")


def test_other_variables_are_out_of_reach(provider, monkeypatch):
    """A profile is data: it must not carry the worker's own secrets to a camera."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x:pa55")
    assert "CAMERA_" in refused(provider, "env:AWS_SECRET_ACCESS_KEY")


def test_a_file_in_the_folder_is_read_anew_each_time(provider, folder):
    (folder / "gate").write_text("admin:pa55\nmore\n")
    assert provider.get("file:gate") == Credentials("admin", "pa55")
    (folder / "gate").write_text("Bearer abc.def\n")
    assert provider.get("file:gate") == Credentials(token="abc.def")
    assert provider.get(f"file:{folder}/gate") == Credentials(token="abc.def")


@pytest.mark.parametrize("name", ["../outside", "link", "/etc/passwd", "", ".", "absent", "a\0b"])
def test_files_elsewhere_are_out_of_reach(provider, folder, name):
    (folder.parent / "outside").write_text("admin:pa55")
    (folder / "link").symlink_to(folder.parent / "outside")
    refused(provider, f"file:{name}")


@pytest.mark.parametrize(
    "text",
    ["", "pa55", ":pa55", "Bearer ", "Bearer pa55\x01", "user:pa55\x07", "x" * 5_000],
)
def test_text_that_is_no_credential_is_refused_and_not_shown(provider, folder, text):
    (folder / "gate").write_text(text)
    refused(provider, "file:gate")


def test_bytes_that_are_no_text(provider, folder):
    (folder / "gate").write_bytes(b"admin:\xff\xfe")
    refused(provider, "file:gate")


@pytest.mark.parametrize("reference", ["pigeon:x", "gate", "vault:secret/gate", "env:"])
def test_other_places_are_not_known(provider, reference):
    refused(provider, reference)


def test_credentials_do_not_show_in_their_repr():
    text = repr(Credentials("admin", "pa55", "t0ken"))
    assert "pa55" not in text
    assert "t0ken" not in text
