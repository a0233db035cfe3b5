"""What `capture show` says of a photo: by what it was judged, and what lies beside it (issue 8)."""

from __future__ import annotations

from golden_records import BY_HAND

from shutterwheel.commands.capture import _print_result


def test_the_verdicts_provider_and_the_files_beside_the_photo_are_shown(capsys):
    result = BY_HAND["CaptureResult"]
    _print_result(result)
    said = capsys.readouterr().out
    assert "blur (blur 0.75; model 0f0f0f0f0f0f on CPUExecutionProvider)" in said
    assert f"thumbnail.jpg sha256 {'1e' * 32}" in said
