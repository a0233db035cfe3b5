"""Credentials of places that take their time: fetched once, kept for a while, for many devices.

A thousand cameras commonly share one password. When their captures come due together and nothing is
at hand, one of them asks the keyring or the vault and the others wait for its answer, each until
its own deadline. A refusal is kept as well, for a shorter time, so that a vault that is down is not
asked a thousand times a second.

    wallet = Wallet(settings, {"vault": MyVault(), **keyring_of(settings)})
    Cameras(settings, credentials=wallet)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from connectors.cameras.credentials import LocalCredentials, parse, unusable
from connectors.cameras.frame import clean
from schemas.errors import CameraError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectors.cameras.base import CameraSettings
    from connectors.cameras.credentials import Credentials, CredentialSource

MAX_KEPT: Final = 65_536
"""References whose credentials are kept; some 300 bytes each; the longest unused goes first."""
REFUSAL_TTL_S: Final = 2.0
FETCH_TIMEOUT_S: Final = 10.0
"""How long a source may take for one answer, whoever still waits for it."""
MAX_READS: Final = 4
"""Reads of a keyring at once: one that waits for somebody to unlock it holds its thread."""


class _Kept(NamedTuple):
    found: Credentials | CameraError
    until_s: float


class Wallet:
    """The provider of ``env:``, ``file:`` and of every source that is handed in."""

    def __init__(
        self,
        settings: CameraSettings,
        sources: Mapping[str, CredentialSource] | None = None,
        *,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``sources``: by the word before the colon of a reference."""
        self._local = LocalCredentials(settings)
        self._sources = dict(sources or {})
        self._ttl_s = settings.credential_ttl_ms / 1000
        self._now_s = now_s
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._asked: dict[str, asyncio.Task[None]] = {}

    async def load(self, reference: str, *, deadline_s: float) -> None:
        """Have a source's answer at hand; see :class:`CredentialProvider`."""
        kind, _, name = reference.partition(":")
        source = self._sources.get(kind)
        if source is None:
            return
        kept = self._kept.get(reference)
        if kept is None or kept.until_s <= self._now_s():
            task = self._asked.get(reference)
            if task is None:
                task = asyncio.create_task(self._ask(source, name, reference))
                self._asked[reference] = task
            try:
                async with asyncio.timeout_at(deadline_s):
                    await asyncio.shield(task)
            except TimeoutError:
                raise _no_answer(reference, "not before the deadline") from None

    def get(self, reference: str) -> Credentials:
        """Return what ``reference`` names; see :class:`CredentialProvider`."""
        if reference.partition(":")[0] not in self._sources:
            return self._local.get(reference)
        kept = self._kept.get(reference)
        if kept is None:
            raise _no_answer(reference, "it was not asked yet")
        self._kept.move_to_end(reference)
        if isinstance(kept.found, CameraError):  # a new one: the old one has its own traceback
            raise CameraError(kept.found.cause, str(kept.found), retry=kept.found.retry)
        return kept.found

    async def _ask(self, source: CredentialSource, name: str, reference: str) -> None:
        """Fetch once and keep the answer, or why there is none."""
        ttl_s = REFUSAL_TTL_S
        found: Credentials | CameraError
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                found = parse(await source.fetch(name), reference)
            ttl_s = self._ttl_s
        except TimeoutError:
            found = _no_answer(reference, f"not within {FETCH_TIMEOUT_S:.0f} s")
        except CameraError as error:
            found = error
        except Exception as error:  # noqa: BLE001 - a source is not ours, and its text may hold all
            found = _no_answer(reference, f"it failed with {type(error).__name__}")
        finally:
            self._asked.pop(reference, None)
        self._kept[reference] = _Kept(found, self._now_s() + ttl_s)
        self._kept.move_to_end(reference)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)


class KeyringSource:
    """The keyring of the machine's user, through the library ``keyring``: an extra.

    ``keyring set shutterwheel gate`` asks for the text and keeps it for ``keyring:gate``. Where
    there is no keyring (a container, a service without a desktop) that is said at once.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._reads = 0

    async def fetch(self, name: str) -> str:
        """Return the entry; see :class:`CredentialSource`."""
        if self._reads >= MAX_READS:
            raise _no_answer(f"keyring:{name}", "it has not answered others before")
        self._reads += 1

        def read() -> str:
            try:
                return self._read(name)
            finally:
                self._reads -= 1

        return await _in_a_thread(read)

    def _read(self, name: str) -> str:
        reference = f"keyring:{name}"
        try:
            import keyring
            from keyring.errors import KeyringLocked, NoKeyringError
        except ImportError:
            how = "the keyring library is not installed: pip install 'shutterwheel[keyring]'"
            raise unusable(reference, how) from None
        try:
            text = keyring.get_password(self._service, name)
        except NoKeyringError:
            how = "this machine has no keyring for us; use file: or env:"
            raise unusable(reference, how) from None
        except KeyringLocked:
            raise _no_answer(reference, "it is locked") from None
        if text is None:
            how = f"there is no such entry: keyring set {clean(self._service)} {clean(name)}"
            raise unusable(reference, how)
        return text


def keyring_of(settings: CameraSettings) -> dict[str, CredentialSource]:
    """Return the keyring as a source, for :class:`Wallet`."""
    return {"keyring": KeyringSource(settings.credential_keyring_service)}


async def _in_a_thread(work: Callable[[], str]) -> str:
    """Run blocking work in a thread that ends with the program, not the program with it."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def settle(text: str, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(text)
        else:
            answer.set_exception(error)

    def run() -> None:
        text, failed = "", None
        try:
            text = work()
        except Exception as error:  # noqa: BLE001 - handed to who waits
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, text, failed)

    threading.Thread(target=run, name="keyring", daemon=True).start()
    return await answer


def _no_answer(reference: str, why: str) -> CameraError:
    return CameraError(
        "credentials", f"the credentials {clean(reference)!r} are not to be had now: {why}"
    )
