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

# cross_environment: what cargo has to know of the cross compilers for `target`. Not for this machine's own kind: build
# scripts would get the linker too, and cargo would build all anew whenever the architecture changes.
cross_environment() {
  if [ "$target" != "$(rustc -vV | sed -n 's/^host: //p')" ]; then
    upper=${target^^} upper=${upper//-/_} lower=${target//-/_}
    export "CARGO_TARGET_${upper}_LINKER=$tools-gcc" "CC_$lower=$tools-gcc" "AR_$lower=$tools-ar"
    # bindgen reads the kernel's camera interface in the device's C headers, which differ by word size.
    export "BINDGEN_EXTRA_CLANG_ARGS_$lower=--sysroot=/usr/$tools -I/usr/$tools/include"
  fi
}
