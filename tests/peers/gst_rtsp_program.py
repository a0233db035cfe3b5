"""The GStreamer RTSP server as a program for the system's own Python (it has PyGObject).

    /usr/bin/python3 gst_rtsp_program.py '{"mounts": [{"path": "/cam", "codec": "h264", …}]}'

Prints ``{"port": N}`` when it listens. See gst_rtsp.py, which starts it, for the keys.
"""

import ctypes
import json
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

TRANSPORTS = {"tcp": GstRtsp.RTSPLowerTrans.TCP, "udp": GstRtsp.RTSPLowerTrans.UDP}
METHODS = {"basic": GstRtsp.RTSPAuthMethod.BASIC, "digest": GstRtsp.RTSPAuthMethod.DIGEST}


def launch(mount):
    source = (
        f"videotestsrc is-live=true pattern={mount['pattern']} ! "
        f"video/x-raw,format=I420,width={mount['width_px']},height={mount['height_px']},"
        f"framerate={mount['frames_per_s']}/1 ! "
    )
    gop = mount["gop_frames"]
    encoders = {
        "h264": f"x264enc tune=zerolatency speed-preset=ultrafast bframes=0 key-int-max={gop} "
        f"option-string=scenecut=0 bitrate=2000 ! rtph264pay name=pay0 pt=96 "
        f"config-interval={mount['parameter_sets_s']}",
        "h265": f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={gop} "
        f"option-string=scenecut=0:bframes=0 bitrate=2000 ! rtph265pay name=pay0 pt=96 "
        f"config-interval={mount['parameter_sets_s']}",
        "mjpeg": "jpegenc quality=80 ! rtpjpegpay name=pay0 pt=26",
    }
    return f"( {source}{encoders[mount['codec']]} )"


def factory_of(mount, auth):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch(mount))
    factory.set_shared(mount["warm"])
    transports = 0
    for name in mount["transports"]:
        transports |= TRANSPORTS[name]
    factory.set_protocols(GstRtsp.RTSPLowerTrans(transports))
    if auth:
        text = "user,media.factory.access=(boolean)true,media.factory.construct=(boolean)true"
        role, _ = Gst.Structure.from_string(text)
        factory.add_role_from_structure(role)
    return factory


def authentication(auth):
    gate = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    methods = 0
    for name in auth["methods"]:
        methods |= METHODS[name]
        if name == "basic":
            basic = GstRtspServer.RTSPAuth.make_basic(auth["user"], auth["password"])
            gate.add_basic(basic, token)
        else:
            gate.add_digest(auth["user"], auth["password"], token)
    if methods in (1, 2):
        gate.set_supported_methods(GstRtsp.RTSPAuthMethod(methods))
    else:  # PyGObject takes one value of an enumeration, the library takes their union
        library = ctypes.CDLL("libgstrtspserver-1.0.so.0")
        library.gst_rtsp_auth_set_supported_methods(ctypes.c_void_p(hash(gate)), methods)
    return gate


def keep_warm(port, mount, auth):
    """A viewer of our own, so that the stream runs before and between the visits of others."""
    place = f"rtsp://127.0.0.1:{port}{mount['path']}"
    transport = "tcp" if "tcp" in mount["transports"] else "udp"
    login = f"user-id={auth['user']} user-pw={auth['password']} " if auth else ""
    text = f"rtspsrc location={place} protocols={transport} {login}! fakesink sync=false"
    viewer = Gst.parse_launch(text)
    viewer.set_state(Gst.State.PLAYING)
    return viewer


def main():
    settings = json.loads(sys.argv[1])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")
    auth = settings["auth"]
    if auth:
        server.set_auth(authentication(auth))
    for mount in settings["mounts"]:
        server.get_mount_points().add_factory(mount["path"], factory_of(mount, auth))
    if not server.attach(None):
        sys.exit("cannot listen")
    port = server.get_bound_port()
    viewers = [keep_warm(port, mount, auth) for mount in settings["mounts"] if mount["warm"]]
    print(json.dumps({"port": port, "viewers": len(viewers)}), flush=True)
    GLib.MainLoop().run()


main()
