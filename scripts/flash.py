#!/usr/bin/env python3
"""Puts package, bundle and configuration onto a device. Python's standard library only.

    scripts/flash.py ssh root@device --bundle parts.salad [--config edge.toml]     a device that runs, over ssh
    scripts/flash.py rollback root@device                                          what it had before the last flash
    sudo scripts/flash.py image raspios.img --out parts.img --bundle parts.salad   an image file, flashed as a copy
    sudo scripts/flash.py image /dev/sdX --bundle parts.salad                      a card

The package is by default the newest in target/deb for the device's architecture. With ssh the service is watched for some
seconds, and where it is not healthy, the device goes back to package, bundle and configuration from before. Into an image
the package is installed by the image's own dpkg where its programs run here, else at the first boot; everything is read
back. --dry-run only looks. Exit code 0: done and healthy. 1: not, and it says what to do.
"""

import argparse
import os
import pathlib
import signal
import sys

from flash_image import flash_image
from flash_package import FlashError
from flash_ssh import flash_ssh, rollback_ssh

PACKAGES = pathlib.Path(__file__).resolve().parent.parent / "target/deb"


def say(text):
    print(f"flash: {text}", flush=True)


def parser():
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ways = top.add_subparsers(dest="way", required=True)
    ssh = ways.add_parser("ssh", help="to a running device")
    rollback = ways.add_parser("rollback", help="a running device goes back to what it had before its last flash")
    image = ways.add_parser("image", help="into an image file or a card")
    for way in (ssh, rollback):
        way.add_argument("device", metavar="USER@HOST")
        way.add_argument("--port", type=int)
        way.add_argument("--identity", metavar="FILE", help="private key for ssh")
        way.add_argument("--ssh-option", action="append", default=[], metavar="KEY=VALUE", help="as ssh -o; may be repeated")
        way.add_argument("--seconds", type=int, default=15, help="how long the service has to stay up (15)")
    image.add_argument("image", metavar="IMAGE")
    image.add_argument("--out", metavar="FILE", help="the flashed copy of an image file")
    image.add_argument("--in-place", action="store_true", help="write into the image file itself")
    image.add_argument("--partition", type=int, metavar="N", help="the root partition, where there are several")
    image.add_argument("--first-boot", action="store_true", help="install at the first boot, run nothing of the image here")
    image.add_argument("--hostname")
    image.add_argument("--ssh-key", metavar="FILE", help="a public key that may log in; the ssh server is switched on")
    image.add_argument("--ssh-user", default="root", help="whose key it is (root)")
    image.add_argument("--i-know-this-disk", action="store_true", help="allow a disk of which other partitions are in use")
    for way in (ssh, image):
        way.add_argument("--package", metavar="DEB", help="default: the newest in target/deb for the architecture")
        way.add_argument("--bundle", metavar="FILE", required=way is image, help="model bundle")
        way.add_argument("--config", metavar="FILE", help="edge.toml")
        way.add_argument("--dry-run", action="store_true", help="look, check, say what would be done, and change nothing")
        way.set_defaults(packages=PACKAGES)
    return top


def stop(number, _frame):
    """A polite request to end takes the way of an exception, which cleans up."""
    raise SystemExit(128 + number)


def main():
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        {"ssh": flash_ssh, "rollback": rollback_ssh, "image": flash_image}[options.way](options, say)
    except FlashError as error:
        sys.exit(f"flash: {error}")
    except OSError as error:
        sys.exit(f"flash: {error.filename or 'input and output'}: {os.strerror(error.errno or 0)}: put that right and try again")
    except KeyboardInterrupt:
        sys.exit("flash: stopped")


if __name__ == "__main__":
    main()
