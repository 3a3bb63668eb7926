#!/usr/bin/env bash
# Everything the other targets need, on a Debian or Ubuntu with Rust and Python 3: system packages by apt, libtorch under
# target/. What is there already is left alone. Called by the Makefile; safe to run again at any time.
#   scripts/setup.sh [packages] [rustfmt] [clippy] [libtorch] [cross-arm64] ...        each word adds a step
#   cross-arm64, cross-armhf and cross-amd64 are what building for a device takes, emulation what running it here does,
#   counting what counting its instructions does, machines what an emulated machine does, streams what serving network cameras
#   here does, brokers an MQTT broker to test with, browser one to see the device's page with
#   LIBTORCH=<folder>       use this libtorch 2.11.0 and download none
#   LIBTORCH_KIND=cuda      download the set that runs on NVIDIA GPUs too, 2.5 GB instead of 0.5 GB
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# Names the Debian packages that are missing, one a line.
missing_packages() {
  command -v gcc >/dev/null || echo gcc
  command -v g++ >/dev/null || echo g++
  command -v ffmpeg >/dev/null || echo ffmpeg
  # bindgen, for the camera's kernel interface.
  compgen -G '/usr/lib/llvm-*/lib/libclang[.-][0-9s]*' >/dev/null || echo libclang-dev
  command -v python3 >/dev/null || echo python3
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# cross_packages ARCH: the same, for building programs for that processor.
cross_packages() {
  case $1 in
    arm64) command -v aarch64-linux-gnu-gcc >/dev/null || printf '%s\n' gcc-aarch64-linux-gnu libc6-dev-arm64-cross ;;
    armhf) command -v arm-linux-gnueabihf-gcc >/dev/null || printf '%s\n' gcc-arm-linux-gnueabihf libc6-dev-armhf-cross ;;
  esac
}

# The same, for running what was built for other processors, and installing it in a Debian of theirs.
emulation_packages() {
  command -v mmdebstrap >/dev/null || echo mmdebstrap
  command -v arch-test >/dev/null || echo arch-test
  command -v qemu-aarch64-static >/dev/null || printf '%s\n' qemu-user-static binfmt-support
}

# The same, for counting instructions: the emulator that loads plugins, which is not the static one.
counting_packages() {
  command -v qemu-aarch64 >/dev/null || echo qemu-user
}

# The same, for emulated machines and the Debian that runs in them.
machine_packages() {
  command -v qemu-system-x86_64 >/dev/null || echo qemu-system-x86
  command -v qemu-system-aarch64 >/dev/null || echo qemu-system-arm
  command -v cpio >/dev/null || echo cpio
  PATH=$PATH:/sbin:/usr/sbin command -v depmod >/dev/null || echo kmod
  [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
}

# The same, for an RTSP server to test with.
streams_packages() {
  /usr/bin/python3 -c 'import gi; gi.require_version("GstRtspServer", "1.0")' 2>/dev/null ||
    printf '%s\n' python3-gi gir1.2-gst-rtsp-server-1.0
  [ -e /usr/share/doc/gstreamer1.0-plugins-good ] || echo gstreamer1.0-plugins-good
  [ -e /usr/share/doc/gstreamer1.0-plugins-bad ] || echo gstreamer1.0-plugins-bad
}

# The same, for an MQTT broker to test with.
broker_packages() {
  PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || echo mosquitto
  command -v mosquitto_sub >/dev/null || echo mosquitto-clients
  command -v openssl >/dev/null || echo openssl
}

# The same, for a browser to test the page in.
browser_packages() {
  command -v chromium >/dev/null || echo chromium
}

# install_packages COMMAND...: COMMAND names the packages that are missing.
install_packages() {
  local missing as_root=()
  mapfile -t missing < <("$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || fail "install what these Debian packages provide, then try again: ${missing[*]}"
  if [ "$(id -u)" != 0 ]; then
    # Without a terminal sudo must not wait for a password.
    if [ -t 0 ]; then as_root=(sudo); else as_root=(sudo -n); fi
    if ! command -v sudo >/dev/null || ! "${as_root[@]}" true; then
      fail "no right to install packages; as root, run: apt-get install ${missing[*]}"
    fi
  fi
  say "installing system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null
  mapfile -t missing < <("$@")
  [ ${#missing[@]} -eq 0 ] || fail "still missing after the installation: ${missing[*]}"
}

component() {
  cargo "$2" --version >/dev/null 2>&1 && return 0
  command -v rustup >/dev/null || fail "cargo $2 is missing: install the $1 of your Rust"
  say "installing $1 by rustup"
  rustup component add "$1"
}

# cross ARCH TARGET: Rust's and C's half of building for it.
cross() {
  install_packages cross_packages "$1"
  if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$2/lib" ]; then
    command -v rustup >/dev/null || fail "Rust's standard library for $2 is missing: install it for your Rust"
    say "installing Rust's standard library for $2 by rustup"
    rustup target add "$2"
  fi
}

libtorch() {
  if [ -n "${LIBTORCH:-}" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH=$LIBTORCH holds no lib/libtorch_cpu.so: correct or unset it"
    say "using LIBTORCH=$LIBTORCH"
  else
    scripts/setup-libtorch.sh "${LIBTORCH_KIND:-cpu}"
  fi
}

command -v cargo >/dev/null || fail "cargo is missing: install Rust 1.91 or newer, see https://rustup.rs"
for step in "$@"; do
  case $step in
    packages) install_packages missing_packages ;;
    rustfmt) component rustfmt fmt ;;
    clippy) component clippy clippy ;;
    libtorch) libtorch ;;
    cross-arm64) cross arm64 aarch64-unknown-linux-gnu ;;
    cross-armhf) cross armhf armv7-unknown-linux-gnueabihf ;;
    cross-amd64) cross amd64 x86_64-unknown-linux-gnu ;;
    emulation)
      install_packages emulation_packages
      # The installation registers the emulator; a start of the machine without systemd forgets it.
      [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || { update-binfmts --import && update-binfmts --enable; }
      ;;
    counting) install_packages counting_packages ;;
    machines) install_packages machine_packages ;;
    streams) install_packages streams_packages ;;
    browser) install_packages browser_packages ;;
    brokers)
      # Tests of a program that needs no broker: they can do without, but say so.
      (install_packages broker_packages) || [ -z "${CI:-}" ] || exit 1
      ;;
    *) fail "unknown step '$step'" ;;
  esac
done
