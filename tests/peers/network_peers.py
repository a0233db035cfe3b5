"""Programs of others that announce themselves on a network (:mod:`network`): two cameras, two others.

    with Lan("avahi", "gssdp", "minidlna", "wsdd") as lan:
        with AvahiCamera(folder, lan.prefix("avahi")): ...              # mDNS _onvif._tcp
        with GssdpCamera(folder, lan.prefix("gssdp"), address): ...     # SSDP DigitalSecurityCamera:1
        with MinidlnaServer(folder, lan.prefix("minidlna")): ...        # UPnP MediaServer:1, no camera
        with WsddComputer(folder, lan.prefix("wsdd")): ...              # WS-Discovery Computer, no camera

The camera of IpycamPeer (ONVIF, WS-Discovery) takes ``prefix`` as well. Each has a namespace of its
own: devices at one address are one device.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from peer import Peer, PeerMissing, program

if TYPE_CHECKING:
    from collections.abc import Sequence

AVAHI_PORT, GSSDP_PORT = 8080, 49200


class AvahiCamera(Peer):
    """avahi-daemon with an ``_onvif._tcp`` service, as a camera runs it."""

    name = "avahi"

    def __init__(self, folder: Path, prefix: Sequence[str], *, camera_name: str = "Gate") -> None:
        super().__init__(folder)
        daemon = program("avahi-daemon", "avahi-daemon")
        (folder / "avahi.conf").write_text(
            "[server]\nhost-name=avahicam\nallow-interfaces=eth0\nuse-ipv6=no\nenable-dbus=no\n"
            "[publish]\npublish-workstation=no\npublish-hinfo=no\n"
        )
        services = folder / "services"
        services.mkdir()
        (services / "camera.service").write_text(
            textwrap.dedent(
                f"""\
                <?xml version="1.0" standalone='no'?>
                <!DOCTYPE service-group SYSTEM "avahi-service.dtd">
                <service-group>
                  <name>{camera_name}</name>
                  <service><type>_onvif._tcp</type><port>{AVAHI_PORT}</port>
                    <txt-record>path=/onvif/device_service</txt-record>
                    <txt-record>model=AV-1</txt-record></service>
                </service-group>
                """
            )
        )
        # Its pid file and its services have fixed places: it gets its own view of those folders.
        script = (
            "mkdir -p /run/avahi-daemon && mount -t tmpfs none /run/avahi-daemon"
            f" && mount --bind {services} /etc/avahi/services"
            f" && exec {daemon} --no-drop-root --no-chroot --no-rlimits -f {folder / 'avahi.conf'}"
        )
        self.start([*prefix, program("unshare", "util-linux"), "--mount", "sh", "-c", script])

    def ready(self) -> bool:
        return "successfully established" in self.log_tail()


class GssdpCamera(Peer):
    """GSSDP with a resource of the type ``DigitalSecurityCamera:1``, and its description."""

    name = "gssdp"

    def __init__(self, folder: Path, prefix: Sequence[str], address: str) -> None:
        super().__init__(folder)
        python = Path("/usr/bin/python3")
        if not python.exists():
            raise PeerMissing(
                "the system's Python is not here (Debian: apt-get install python3-gi)"
            )
        (folder / "device.xml").write_text(
            '<root xmlns="urn:schemas-upnp-org:device-1-0"><device>'
            "<deviceType>urn:schemas-upnp-org:device:DigitalSecurityCamera:1</deviceType>"
            "<friendlyName>Yard</friendlyName><manufacturer>GUPnP</manufacturer>"
            "<modelName>GS-1</modelName><serialNumber>GS-90071</serialNumber>"
            "<UDN>uuid:6f1f0a4e-5b3f-4d0b-9d43-000000000001</UDN>"
            f"<presentationURL>http://{address}:{GSSDP_PORT}/</presentationURL>"
            "</device></root>"
        )
        (folder / "program.py").write_text(_GSSDP_PROGRAM)
        self.start([*prefix, str(python), "program.py", address, str(GSSDP_PORT)])

    def ready(self) -> bool:
        if "No module named 'gi'" in self.log_tail() or "not available" in self.log_tail():
            raise PeerMissing(
                "GSSDP is not installed here (Debian: apt-get install gir1.2-gssdp-1.6 python3-gi)"
            )
        return "ready" in self.log_tail()


_GSSDP_PROGRAM = """\
import functools, http.server, sys, threading
import gi
gi.require_version("GSSDP", "1.6")
from gi.repository import GLib, GSSDP

address, port = sys.argv[1], int(sys.argv[2])
server = http.server.ThreadingHTTPServer((address, port), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = GSSDP.Client.new_full("eth0", None, 0, GSSDP.UDAVersion.VERSION_1_0)
group = GSSDP.ResourceGroup.new(client)
udn = "uuid:6f1f0a4e-5b3f-4d0b-9d43-000000000001"
kind = "urn:schemas-upnp-org:device:DigitalSecurityCamera:1"
for target in ("upnp:rootdevice", kind):
    group.add_resource_simple(target, udn + "::" + target, f"http://{address}:{port}/device.xml")
group.set_available(True)
print("ready", flush=True)
GLib.MainLoop().run()
"""


class MinidlnaServer(Peer):
    """minidlna: a media server, which is no camera."""

    name = "minidlna"

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        super().__init__(folder)
        daemon = program("minidlnad", "minidlna")
        media = folder / "media"
        media.mkdir()
        (folder / "minidlna.conf").write_text(
            f"media_dir={media}\ndb_dir={folder / 'db'}\nlog_dir={folder}\nport=8200\n"
            "network_interface=eth0\nfriendly_name=Films\ninotify=no\n"
        )
        self.start([*prefix, daemon, "-d", "-f", "minidlna.conf", "-P", str(folder / "pid")])

    def ready(self) -> bool:
        return "HTTP listening on port" in self.log_tail()


class WsddComputer(Peer):
    """wsdd: a computer as Windows' network neighbourhood shows it, which is no camera."""

    name = "wsdd"

    def __init__(self, folder: Path, prefix: Sequence[str]) -> None:
        super().__init__(folder)
        command = [program("wsdd", "wsdd"), "-4", "-v", "-i", "eth0", "-n", "office-pc"]
        self.start([*prefix, shutil.which("python3") or sys.executable, *command])

    def ready(self) -> bool:
        return "joined multicast group" in self.log_tail()
