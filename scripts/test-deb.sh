#!/usr/bin/env bash
# Installs, upgrades, removes and purges target/deb's package in a Debian of its own for that processor, under emulation
# where it is a foreign one, and looks at what comes of it. As root.
#   scripts/test-deb.sh ARCH...      arm64, armhf, amd64
# The root is made once for each processor and release, under target/test-deb; RELEASE=trixie takes another Debian.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/edge-targets.sh

release=${RELEASE:-bookworm}
roots=$PWD/target/test-deb

fail() { echo "test-deb: $*" >&2; exit 1; }
step() { echo "test-deb: $arch: $*"; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 ${QEMU_CPU:+QEMU_CPU="$QEMU_CPU"} "$@"; }
# silent COMMAND...: succeeds, and says nothing on standard error. systemd-analyze warns of bad keys and exits with 0.
silent() {
  local words
  words=$("$@" 2>&1 >/dev/null) || fail "$*: $words"
  [ -z "$words" ] || fail "$* says: $words"
}
there() { for path in "$@"; do [ -e "$root/$path" ] || [ -L "$root/$path" ] || fail "/$path is missing"; done; }
gone() { for path in "$@"; do [ ! -e "$root/$path" ] && [ ! -L "$root/$path" ] || fail "/$path is still there"; done; }
holds() { grep -qxF "$2" "$root/$1" || fail "/$1 has lost: $2"; }

[ "$(id -u)" = 0 ] || fail "has to be root, for chroot"
[ $# -gt 0 ] || fail "usage: $0 arm64|armhf|amd64..."
scripts/setup.sh emulation
mkdir -p "$roots"

# base ARCH: a small Debian with what looks into the package.
base() {
  local tar=$roots/$release-$1.tar
  [ -s "$tar" ] && return
  step "making a Debian root (minutes, once)"
  mmdebstrap --quiet --format=tar --architectures="$1" --variant=minbase --include=systemd,man-db,bash-completion \
    "$release" "$tar.part"
  mv "$tar.part" "$tar"
}

# next_version DEB OUT: the package with a higher version and a changed default configuration.
next_version() {
  local tree
  tree=$(mktemp -d)
  dpkg-deb -R "$1" "$tree"
  sed -i -E 's/^Version: .*/&+next/' "$tree/DEBIAN/control"
  echo "# of the next version" >>"$tree/etc/salad-edge/edge.toml"
  dpkg-deb --root-owner-group -Znone --build "$tree" "$2" >/dev/null
  rm -rf "$tree"
}

test_arch() {
  local deb=("$PWD"/target/deb/salad-edge_*_"$arch".deb) config=etc/salad-edge/edge.toml state=var/lib/salad-edge
  [ ${#deb[@]} = 1 ] && [ -e "${deb[0]}" ] || fail "expected one package in target/deb for $arch: make deb ARCH=$arch"
  # Ten times as fast as qemu's default, which has every extension.
  if [ "$arch" = arm64 ]; then export QEMU_CPU=cortex-a72; else unset QEMU_CPU; fi
  base "$arch"
  root=$(mktemp -d "$roots/$arch.XXXXXX")
  trap 'rm -rf "$root"' EXIT
  tar -C "$root" -xf "$roots/$release-$arch.tar"
  cp "${deb[0]}" "$root/this.deb"
  next_version "${deb[0]}" "$root/next.deb"

  step "install"
  inside dpkg -i /this.deb >/dev/null
  there usr/bin/salad-edge $config $state usr/lib/systemd/system/salad-edge.service \
    etc/systemd/system/multi-user.target.wants/salad-edge.service \
    usr/share/doc/salad-edge/{copyright,third-party-licences.gz,rust-standard-library.html.gz,salad-edge.cdx.json} \
    usr/share/doc/salad-edge/{changelog.gz,examples/{edge.toml,edge.schema.json,grafana.json}} \
    usr/share/zsh/vendor-completions/_salad-edge usr/share/fish/vendor_completions.d/salad-edge.fish
  inside dpkg --verify salad-edge
  inside salad-edge --version
  # Nothing on the device has to be looked for: all libraries are there.
  [ -z "$(inside ldd /usr/bin/salad-edge | grep 'not found')" ] || fail "libraries are missing"
  for group in video gpio; do
    inside id -nG salad-edge | grep -qw $group || fail "the service's user is not in the group $group"
  done
  [ "$(stat -c %a "$root/$state")" = 750 ] || fail "/$state can be read by everybody"

  step "manual pages and completions"
  for page in "$root"/usr/share/man/man1/salad-edge*; do
    page=${page##*/}
    silent inside man --warnings --encoding=UTF-8 -l "/usr/share/man/man1/$page"
  done
  inside man -w salad-edge salad-edge-run >/dev/null
  inside bash -c '. /usr/share/bash-completion/bash_completion && _completion_loader salad-edge; complete -p salad-edge' \
    >/dev/null

  step "the unit"
  silent inside systemd-analyze verify /usr/lib/systemd/system/salad-edge.service
  inside systemd-analyze security --offline=true --threshold=25 --no-pager salad-edge.service | tail -n 1

  step "upgrade keeps configuration and data"
  echo "# changed here" >>"$root/$config"
  for file in model.salad events.jsonl; do echo "$file" >"$root/$state/$file"; done
  rm "$root/etc/systemd/system/multi-user.target.wants/salad-edge.service"
  inside dpkg --force-confold -i /next.deb >/dev/null
  inside dpkg-query -Wf '${Version}\n' salad-edge | grep -q '+next$' || fail "the version is still the old one"
  holds $config "# changed here"
  holds $config.dpkg-dist "# of the next version"
  for file in model.salad events.jsonl; do holds "$state/$file" "$file"; done
  gone etc/systemd/system/multi-user.target.wants/salad-edge.service

  step "removal keeps them too"
  inside dpkg -r salad-edge >/dev/null
  gone usr/bin/salad-edge usr/lib/systemd/system/salad-edge.service usr/share/doc/salad-edge
  holds $config "# changed here"
  for file in model.salad events.jsonl; do holds "$state/$file" "$file"; done

  step "and so does installing it again"
  inside dpkg --force-confold -i /this.deb >/dev/null
  holds $config "# changed here"
  holds $state/model.salad model.salad

  step "purge deletes them"
  echo secret >"$root/etc/salad-edge/camera-password"
  mkdir "$root/var/lib/salad-flash"
  inside dpkg -P salad-edge >/dev/null
  gone usr/bin/salad-edge etc/salad-edge var/lib/salad-flash $state etc/systemd/system/multi-user.target.wants/salad-edge.service
  [ -z "$(find "$root/var/lib/systemd" -name '*salad*')" ] || fail "systemd's helper still knows the service"
  rm -rf "$root"
  trap - EXIT
}

for arch in "$@"; do
  edge_target "$arch"
  start=$SECONDS
  test_arch
  step "all as it should be, after $((SECONDS - start)) s"
done
