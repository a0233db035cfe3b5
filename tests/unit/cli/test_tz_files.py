"""Further versions of the tz data, given by ``--tz FOLDER`` (ADR 0032)."""

from __future__ import annotations

import pytest

from schemas.errors import UsageError
from shutterwheel.tz_files import know_tz, tz_in
from streams.core.recurrence import zones
from tests.unit.core.tz_trees import tree


def test_a_folder_is_known_by_the_version_of_its_package(tmp_path):
    tree(tmp_path, "tzdata", {"Europe/Paris": (7_200, [(1_800_000_000, 3_600)])})
    (tmp_path / "tzdata" / "__init__.py").write_text(
        '__version__ = "2098.1"\nIANA_VERSION = "2098a"\n'
    )
    assert zones.data_of("2098a") is None
    know_tz([str(tmp_path)])
    try:
        found = zones.data_of("2098a")
        assert found is not None
        paris = found.zone("Europe/Paris")
        assert (paris.starts[1:], paris.offsets) == ([1_800_000_000_000], [7_200_000, 3_600_000])
        with pytest.raises(KeyError):
            found.zone("Asia/Tokyo")
    finally:
        del zones._others["2098a"]


@pytest.mark.parametrize("text", [None, "", "IANA_VERSION = 5"])
def test_a_folder_without_a_package_is_wrong_use(tmp_path, text):
    if text is not None:
        (tmp_path / "tzdata").mkdir()
        (tmp_path / "tzdata" / "__init__.py").write_text(text)
    with pytest.raises(UsageError, match="pip install --target"):
        tz_in(str(tmp_path))
