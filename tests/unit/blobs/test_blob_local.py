"""Files that never replace another, and the frames in which pictures go to their process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.blobs import local
from connectors.blobs.local import write_file
from connectors.blobs.writer import Frames, framed


@pytest.fixture(params=["rename", "link"])
def way(request, monkeypatch):
    """Both ways of giving the final name: this system's, and the one of systems without it."""
    if request.param == "link":
        monkeypatch.setattr(local, "_renameat2", None)
    elif local._renameat2 is None:
        pytest.skip("this system has no renameat2; what it has instead is the other case")


@pytest.mark.usefixtures("way")
def test_the_first_of_two_files_stays(tmp_path):
    path = tmp_path / "new folder" / "1.jpg"
    write_file(path, b"first")
    with pytest.raises(FileExistsError):
        write_file(path, b"second")
    assert path.read_bytes() == b"first"
    write_file(path, b"third", replace=True)
    assert path.read_bytes() == b"third"
    assert [entry.name for entry in path.parent.iterdir()] == ["1.jpg"]


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_frames_are_cut_wherever_the_stream_is(values, data):
    stream = b"".join(framed(value) for value in values)
    frames, found = Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert [framed(value)[4:] for value in values] == found
