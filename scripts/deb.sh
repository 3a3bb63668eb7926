#!/usr/bin/env bash
# Makes target/deb/salad-edge_VERSION_ARCH.deb from what edge/packaging holds: program, service, default configuration,
# manual, completions, licences, bill of materials. The same sources give the same bytes.
#   scripts/deb.sh ARCH...      arm64, armhf, amd64
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh
packaging=edge/packaging
out=target/deb

if [ $# = 0 ]; then
  echo "usage: $0 arm64|armhf|amd64..." >&2
  exit 2
fi
version=$(cargo pkgid -p salad-edge)
version=${version##*[@#]}
# For what writes a time, and not for cargo, which builds C code anew wherever this changes, and what depends on that: tract too.
unset SOURCE_DATE_EPOCH
epoch=$(git log -1 --format=%ct)

# newest_glibc PROGRAM: the newest version of the C library that it takes a symbol of.
newest_glibc() {
  readelf --version-info --wide "$1" | grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort -uV | tail -1
}

# packed SOURCE DESTINATION: compressed, with no name and no time in it.
packed() {
  gzip -9nc "$1" >"$2"
}

for arch in "$@"; do
  scripts/edge-cross.sh "$arch"
  edge_target "$arch"
  program=target/$target/dist/salad-edge
  work=$out/$arch
  tree=$work/tree
  doc=$tree/usr/share/doc/salad-edge
  rm -rf "$work"
  mkdir -p "$doc/examples" "$tree"/usr/{bin,share/man/man1} "$tree"/usr/lib/{systemd/system,sysusers.d} \
    "$tree/usr/share/bash-completion/completions" "$tree"/usr/share/{zsh/vendor-completions,fish/vendor_completions.d} \
    "$tree"/etc/salad-edge "$tree/DEBIAN"

  install -m 755 "$program" "$tree/usr/bin/salad-edge"
  cp "$packaging/salad-edge.service" "$tree/usr/lib/systemd/system/"
  cp "$packaging/salad-edge.sysusers" "$tree/usr/lib/sysusers.d/salad-edge.conf"
  cp "$packaging/service.toml" "$tree/etc/salad-edge/edge.toml"
  cp "$packaging/edge.toml" "$packaging/edge.schema.json" "$packaging/grafana.json" "$doc/examples/"

  cargo build --quiet --release --locked --workspace --example manual
  target/release/examples/manual "$work/manual"
  for page in "$work"/manual/man1/*; do packed "$page" "$tree/usr/share/man/man1/${page##*/}.gz"; done
  cp "$work/manual/salad-edge.bash" "$tree/usr/share/bash-completion/completions/salad-edge"
  cp "$work/manual/_salad-edge" "$tree/usr/share/zsh/vendor-completions/"
  cp "$work/manual/salad-edge.fish" "$tree/usr/share/fish/vendor_completions.d/"

  SOURCE_DATE_EPOCH=$epoch scripts/components.py "$target" "$version" "$work"
  cp "$work/salad-edge.cdx.json" "$packaging/debian/copyright" "$doc/"
  packed "$work/third-party-licences" "$doc/third-party-licences.gz"
  packed "$(rustc --print sysroot)/share/doc/rust/COPYRIGHT-library.html" "$doc/rust-standard-library.html.gz"
  packed CHANGELOG.md "$doc/changelog.gz"

  find "$tree" -type d -exec chmod 755 {} +
  find "$tree" -type f ! -path '*/bin/*' -exec chmod 644 {} +
  size=$(du -sk --apparent-size --exclude=DEBIAN "$tree" | cut -f1)
  sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE@/$size/; s/@LIBC@/$(newest_glibc "$program")/" \
    "$packaging/debian/control" >"$tree/DEBIAN/control"
  cp "$packaging/debian/conffiles" "$tree/DEBIAN/"
  install -m 755 "$packaging"/debian/{postinst,prerm,postrm} "$tree/DEBIAN/"
  (cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"

  deb=$out/salad-edge_${version}_$arch.deb
  SOURCE_DATE_EPOCH=$epoch dpkg-deb --root-owner-group -Zxz --build "$tree" "$deb" >/dev/null
  rm -rf "$work"
  stat -c 'deb: %n, %s bytes' "$deb"
done
