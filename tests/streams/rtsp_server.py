#!/usr/bin/python3
"""Serves an MP4 file with H.264 in it by RTSP on the loopback: rtsp_server.py PORT FILE. Takes Debian's packages python3-gi,
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good and -bad."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main():
    port, clip = sys.argv[1:]
    Gst.init(None)
    factory = GstRtspServer.RTSPMediaFactory()
    # The clip passes as it is, at its own pace.
    factory.set_launch(f'( filesrc location="{clip}" ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )')
    factory.set_shared(True)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/clip", factory)
    if not server.attach(None):
        sys.exit(f"rtsp_server.py: port {port} is taken")
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
