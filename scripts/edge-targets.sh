# Sourced by the scripts that build for devices, and know these by Debian's names.

# edge_target ARCH: sets `target`, Rust's name of it, and `tools`, the prefix of Debian's cross compiler.
edge_target() {
  case $1 in
    arm64) target=aarch64-unknown-linux-gnu tools=aarch64-linux-gnu ;;
    armhf) target=armv7-unknown-linux-gnueabihf tools=arm-linux-gnueabihf ;;
    amd64) target=x86_64-unknown-linux-gnu tools=x86_64-linux-gnu ;;
    *) echo "${0##*/}: \"$1\" is none of arm64, armhf, amd64" >&2; exit 2 ;;
  esac
}
