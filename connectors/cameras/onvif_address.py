"""Addresses as a device gives them, turned into addresses at which it was reached.

A device knows its own address, not the one that leads to it: behind NAT, a port forward or a
bridge, after a new lease, or with no idea at all it says ``0.0.0.0``. What it says is rewritten to
the host we reached it at, so that no device can send a worker, or its credentials, elsewhere; the
address policy judges the result, and every redirect, once more.

The device was asked at http://198.51.100.7:8081/onvif/device_service and says that this service is
at http://192.168.1.64/onvif/device_service. So 192.168.1.64:80 stands for 198.51.100.7:8081:

    it says                                 taken as
    http://192.168.1.64/onvif/media         http://198.51.100.7:8081/onvif/media
    http://192.168.1.64:88/snap.jpg         http://198.51.100.7:88/snap.jpg
    rtsp://192.168.1.64:554/ch1             rtsp://198.51.100.7:554/ch1
    http://u:p@0.0.0.0:88/snap.jpg          http://198.51.100.7:88/snap.jpg
    /snap.jpg                               http://198.51.100.7:8081/snap.jpg
"""

from __future__ import annotations

from typing import Final

from yarl import URL

SCHEMES: Final = frozenset({"http", "https", "rtsp", "rtsps"})


def as_reached(said: str, reached: URL, own: URL | None = None) -> str:
    """Return ``said``, an address by a device's own account, as we can reach it.

    ``reached``: where its device service was asked; ``own``: where it says that this is. Empty: it
    is no address of a kind a photo can come from.
    """
    if not said:
        return ""
    try:
        url = URL(said)
        if not url.absolute:
            url = reached.join(url)
        if url.scheme not in SCHEMES or not url.host or not reached.host:
            return ""
        url = url.with_user(None).with_fragment(None)
        if own is not None and url.scheme in {"http", "https"} and _place(url) == _place(own):
            port = reached.explicit_port
            url = url.with_scheme(reached.scheme).with_port(None)
            return str(url.with_host(reached.host).with_port(port))
        return str(url.with_host(reached.host))
    except (ValueError, TypeError):
        return ""


def _place(url: URL) -> tuple[str, str | None, int | None]:
    return (url.scheme, url.host, url.port)
