"""A signature on a photo's label: Ed25519 (RFC 8032), made with a key of the site, checked offline.

What is signed is the statement: every field of the label's XMP but the signature itself, as a JSON
list of [name, value] in the order of their names, UTF-8, behind a line that says what it is. As
``BodySha256`` is one of them, the pixels are covered; EXIF is not, but ``verify`` compares it.

    shutterwheel photos keygen site.key           # site.key (0600) and site.key.pub, PEM
    shutterwheel up --sign-key site.key
    shutterwheel verify photo.jpg --key site.key.pub

**What it proves**: that who had the private key made this file say so. The key is of the site, not
of a camera: it says nothing of what happened before a worker had the bytes. A signature is about
50 µs; no key, no signature, and nothing costs anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from schemas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PURPOSE: Final = b"shutterwheel photo statement 1\n"
"""So that a signature on a photo is none on anything else."""
KEY_DIGITS: Final = 16
MAX_KEY_BYTES: Final = 16_384
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def statement(fields: Mapping[str, str]) -> bytes:
    """Return the bytes that are signed."""
    rows = json.dumps(sorted(fields.items()), ensure_ascii=False, separators=(",", ":"))
    return PURPOSE + rows.encode("utf-8", "surrogatepass")


def _key_id(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key; any number of threads use it. ``Signer.load`` makes it."""

    key_id: str
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    _key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Signer:
        """Read a PEM file (PKCS #8, not encrypted) that nobody else may read.

        Raises UsageError: it is not there, others may read it, or it is no Ed25519 key.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                found = os.fstat(file.fileno())
                data = file.read(MAX_KEY_BYTES)
        except OSError as error:
            raise UsageError(f"The key {path} cannot be read: {error.strerror}.") from error
        if found.st_mode & OTHERS or found.st_uid not in {0, os.geteuid()}:
            raise UsageError(f"The key {path} is open to others. Make it yours alone: chmod 600.")
        try:
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{path} holds no private key in PEM without a password.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError(f"The key {path} is no Ed25519 key.")
        return cls(_key_id(key.public_key()), key)

    def sign(self, fields: Mapping[str, str]) -> str:
        """Return the signature of a statement, base64."""
        return base64.b64encode(self._key.sign(statement(fields))).decode()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a signature is checked with."""

    key_id: str
    _key: Ed25519PublicKey = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        """Read a PEM file (SubjectPublicKeyInfo); raises UsageError."""
        try:
            with path.open("rb") as file:
                key = load_pem_public_key(file.read(MAX_KEY_BYTES))
        except OSError as error:
            raise UsageError(f"The key {path} cannot be read: {error.strerror}.") from error
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{path} holds no public key in PEM.") from error
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError(f"The key {path} is no Ed25519 key.")
        return cls(_key_id(key), key)

    def signed(self, fields: Mapping[str, str], signature: str) -> bool:
        """Say whether the signature is this key's, of these fields."""
        try:
            self._key.verify(base64.b64decode(signature, validate=True), statement(fields))
        except (InvalidSignature, ValueError):
            return False
        return True


def make_keys(path: Path) -> str:
    """Write a new private key to ``path`` (0600) and the public one beside it (``.pub``).

    Returns the key's id. Raises UsageError: one of them is there, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for target, content, mode in ((path, private_pem, 0o600), (public, public_pem, 0o644)):
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error.strerror}.") from error
    return _key_id(key.public_key())
