"""A signed label, checked offline by a public key; issue 8, 'proof of origin inside the file'."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import pytest
from image_files import make
from test_image_verify import LABEL, NOW_MS
from typer.testing import CliRunner

from connectors.images import embed
from connectors.images.executor import ImageExecutor, ImageSettings
from connectors.images.label import make_exif, make_xmp, read_xmp
from connectors.images.pipeline import process
from connectors.images.signing import PublicKey, Signer, make_keys
from connectors.images.spec import CaptureSpec
from connectors.images.verify import verify
from schemas.errors import UsageError
from shutterwheel.cli import app


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "site.key"
    make_keys(path)
    return Signer.load(path), PublicKey.load(tmp_path / "site.key.pub")


def other_key(tmp_path):
    if not (tmp_path / "other.key").exists():
        make_keys(tmp_path / "other.key")
    return PublicKey.load(tmp_path / "other.key.pub")


def said(data: bytes, *keys: PublicKey) -> str:
    (found,) = [one for one in verify(data, "p", NOW_MS, None, keys).findings
                if one.check == "signature"]  # fmt: skip
    return f"{found.status}: {found.found}"


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_signed_photo_is_checked_by_its_public_key(keys, tmp_path, name):
    signer, public = keys
    data = process(make(), CaptureSpec(format=name), LABEL, signer=signer).data
    assert said(data, public) == f"ok: signed by key {public.key_id}"
    assert said(data, other_key(tmp_path), public).startswith("ok")
    assert said(data, other_key(tmp_path)).startswith("fail: signed by key")
    assert said(data) == f"skip: signed by key {public.key_id}: give it to check that"
    assert verify(data, "p", NOW_MS, None, (public,)).ok


def test_no_key_no_signature(keys):
    plain = process(make(), CaptureSpec(), LABEL).data
    assert b"Signature" not in plain
    assert said(plain) == "skip: it is not signed"
    assert said(plain, keys[1]) == "fail: it is not signed"


@pytest.mark.parametrize(
    "change", [{"epoch": 8}, {"schedule_id": "other"}, {"shutter_ms": LABEL.shutter_ms + 1}]
)
def test_a_field_that_was_changed_is_found(keys, change):
    """Another label over the same pixels, with the signature of the first."""
    signer, public = keys
    first = embed.extract(process(make(), CaptureSpec(), LABEL, signer=signer).data)
    label = replace(read_xmp(first.xmp), **change)
    signature = first.xmp.split(b's:Signature="')[1].split(b'"')[0]
    xmp = make_xmp(label).replace(
        b"/>", b' s:SignedBy="%b" s:Signature="%b"/>' % (public.key_id.encode(), signature), 1
    )
    data = embed.embed(first.body, make_exif(label), xmp)
    assert said(data) == f"skip: signed by key {public.key_id}: give it to check that"
    assert said(data, public) == f"fail: not signed by key {public.key_id}, though it says so"


def test_pixels_under_a_signed_label_cannot_be_others(keys):
    signer, public = keys
    signed = embed.extract(process(make(), CaptureSpec(), LABEL, signer=signer).data)
    data = embed.embed(make(64, 64), signed.exif, signed.xmp)
    found = {one.check: one.status for one in verify(data, "p", NOW_MS, None, (public,)).findings}
    assert (found["signature"], found["body"]) == ("ok", "fail")


def test_every_text_that_a_label_can_hold_comes_back_as_it_was_signed(keys):
    signer, public = keys
    for device in ("a\tb\nc\rd", "é & <x> \"y\" 'z'", "\ufffe\ud800x", "  two  spaces  ", "📷"):
        label = replace(LABEL, device_id=device)
        data = process(make(), CaptureSpec(), label, signer=signer).data
        assert said(data, public).startswith("ok"), device


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_may_read_is_refused(keys, tmp_path, mode):
    path = tmp_path / "site.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        Signer.load(path)


def test_what_is_no_key_is_refused_and_no_key_is_overwritten(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(UsageError, match="cannot be read"):
        Signer.load(path)
    path.touch(0o600)
    with pytest.raises(UsageError, match="holds no private key"):
        Signer.load(path)
    with pytest.raises(UsageError, match="holds no public key"):
        PublicKey.load(path)
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        make_keys(path)
    with pytest.raises(UsageError, match="threads only"):
        ImageExecutor(ImageSettings(processes=1), Signer.load(make_pair(tmp_path)))


def make_pair(folder):
    make_keys(folder / "k")
    return folder / "k"


def test_a_key_of_openssl_does(tmp_path):
    """Keys of other programs: PKCS #8 and SubjectPublicKeyInfo in PEM."""
    path = tmp_path / "o.key"
    words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed here")
    assert done.returncode == 0, done.stderr
    path.chmod(0o600)
    public = tmp_path / "o.pub"
    subprocess.run(
        ["openssl", "pkey", "-in", str(path), "-pubout", "-out", str(public)], check=True
    )
    data = process(make(), CaptureSpec(), LABEL, signer=Signer.load(path)).data
    assert said(data, PublicKey.load(public)).startswith("ok")


def test_the_command_line_makes_keys_and_checks_with_them(tmp_path):
    run, key = CliRunner().invoke, tmp_path / "site.key"
    assert run(app, ["photos", "keygen", str(key)]).exit_code == 0
    assert key.stat().st_mode & 0o077 == 0
    assert key.stat().st_uid == os.geteuid()
    photo = tmp_path / "p.jpg"
    photo.write_bytes(process(make(), CaptureSpec(), LABEL, signer=Signer.load(key)).data)
    found = run(app, ["verify", str(photo), "--key", f"{key}.pub"])
    assert (found.exit_code, "signed by key" in found.stdout) == (0, True)
    assert run(app, ["verify", str(photo), "--key", str(key)]).exit_code == 2
    plain = tmp_path / "q.jpg"
    plain.write_bytes(process(make(), CaptureSpec(), LABEL).data)
    assert run(app, ["verify", str(photo), str(plain), "--key", f"{key}.pub"]).exit_code == 1
    open_key = ["up", "--sign-key", str(photo)]
    assert run(app, open_key).exit_code == 2
