"""Credentials of cameras: named in a profile, kept elsewhere, shown nowhere.

A profile's ``credentials_ref`` says where they are to be had:

    env:CAMERA_GATE          the environment variable CAMERA_GATE
    file:gate                the file ``gate`` in the credentials folder (first line)
    keyring:gate             the entry ``gate`` of the service ``shutterwheel`` in the keyring
    vault:cameras/gate       what a source that was handed in under ``vault`` keeps under that name

The text is ``user:password``, or ``Bearer TOKEN``. A profile is data that others write, so a
reference cannot name every variable, file or entry of the worker: only variables that begin with
``credential_env_prefix``, files in ``credential_dir``, entries of ``credential_keyring_service``.

An adapter asks in the middle of a request and cannot wait, but a keyring or a vault takes its
time. So there are two steps: :meth:`CredentialProvider.load`, once before a capture, may wait
(within the capture's deadline); :meth:`CredentialProvider.get` answers at once. What a source gave
is believed for ``credential_ttl_ms``; variables and files are read anew each time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from connectors.cameras.frame import clean
from schemas.errors import CameraError

if TYPE_CHECKING:
    from connectors.cameras.base import CameraSettings

MAX_CREDENTIAL_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password, or a bearer token; neither is ever shown."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


class CredentialSource(Protocol):
    """A place of its own for credentials: a keyring, a vault. This is what a vault implements."""

    async def fetch(self, name: str) -> str:
        """Return the text that is kept under ``name``: ``user:password`` or ``Bearer TOKEN``.

        Asked once for all captures that wait for it. Raises CameraError: ``auth`` (no retry) where
        there is no such thing, ``credentials`` (retry) where the place does not answer now. The
        text must be in no message.
        """
        ...


class CredentialProvider(Protocol):
    """What the adapters ask for credentials."""

    async def load(self, reference: str, *, deadline_s: float) -> None:
        """Make ready what ``reference`` names, before :meth:`get`; may wait until the deadline.

        Raises CameraError ``auth`` or ``credentials``.
        """
        ...

    def get(self, reference: str) -> Credentials:
        """Return what ``reference`` names.

        Raises CameraError ``auth`` (no retry) if it names nothing usable.
        """
        ...


class LocalCredentials:
    """The provider of ``env:`` and ``file:``.

    A file is read at each call (some 20 µs), so that a changed password counts at once.
    """

    def __init__(self, settings: CameraSettings) -> None:
        self._prefix = settings.credential_env_prefix
        self._folder = Path(settings.credential_dir)

    async def load(self, reference: str, *, deadline_s: float) -> None:
        """Do nothing: a variable or a file is read when it is asked for."""

    def get(self, reference: str) -> Credentials:
        """Return what ``reference`` names; see :class:`CredentialProvider`."""
        kind, _, name = reference.partition(":")
        if kind == "env":
            return parse(self._from_env(name), reference)
        if kind == "file":
            return parse(self._from_file(name), reference)
        raise unusable(reference, "it must begin with env:, file: or keyring:")

    def _from_env(self, name: str) -> str:
        if not name.startswith(self._prefix):
            raise unusable(f"env:{name}", f"the variable must begin with {self._prefix}")
        value = os.environ.get(name)
        if value is None:
            raise unusable(f"env:{name}", "the variable is not set for this worker")
        return value

    def _from_file(self, name: str) -> str:
        try:
            folder = self._folder.resolve()
            path = (folder / name).resolve()
            if not path.is_relative_to(folder):
                raise unusable(f"file:{name}", f"the file must lie in {folder}")
            with path.open("rb") as file:
                data = file.read(MAX_CREDENTIAL_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a file name"
            raise unusable(f"file:{name}", f"{reason}") from None
        if len(data) > MAX_CREDENTIAL_BYTES:
            raise unusable(f"file:{name}", f"it is longer than {MAX_CREDENTIAL_BYTES} bytes")
        try:
            return data.decode().partition("\n")[0]
        except UnicodeDecodeError:
            raise unusable(f"file:{name}", "it is not UTF-8 text") from None


def parse(text: str, reference: str) -> Credentials:
    """Read ``user:password`` or ``Bearer TOKEN``; ``reference`` is for the message only."""
    text = text.strip()
    if text.startswith("Bearer "):
        token = text.removeprefix("Bearer ").strip()
        if token and token.isascii() and token.isprintable():
            return Credentials(token=token)
        raise unusable(reference, "its bearer token is empty or not printable ASCII")
    user, colon, password = text.partition(":")
    if not colon or not user or not text.isprintable():
        raise unusable(reference, "it must hold user:password or Bearer TOKEN")
    return Credentials(user=user, password=password)


def unusable(reference: str, why: str) -> CameraError:
    """Return the error of credentials that are not to be had; ``why`` must hold none."""
    return CameraError(
        "auth", f"the credentials {clean(reference)!r} cannot be used: {why}", retry=False
    )
