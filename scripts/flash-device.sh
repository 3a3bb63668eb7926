#!/bin/sh
# What flash.py ssh runs on a device, as root: installs, checks, and goes back to what was there before where it must.
#   flash-device.sh install STAGE SECONDS   STAGE holds package.deb, sums, and maybe model.salad and edge.toml
#   flash-device.sh rollback SECONDS        goes back to what was there before the last flash
# It ends by itself when the connection is lost. Exit codes: 0 done; 1 refused, nothing was changed; 2 it failed and all is
# as before; 3 it failed and going back failed too.
set -u
umask 022
trap '' HUP

name=salad-edge
state=/var/lib/salad-flash
bundle=/var/lib/salad-edge/model.salad
config=/etc/salad-edge/edge.toml
# More than the unit's own limit.
start_limit=240
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo "device: $*"; }
refuse() { say "$*"; exit 1; }

# Version of the installed package, also of one that is not configured; nothing where there is none.
version() { dpkg-query -W -f='${db:Status-Abbrev}${Version}\n' $name 2>/dev/null | sed -n 's/^i[iUFWt] *//p'; }
property() { systemctl show --property="$1" --value $name; }

# Puts a file in place, whole or not at all, with the mode and owner of the one it replaces.
put() {
  mkdir -p "$(dirname "$2")" || return 1
  if [ -e "$2" ]; then cp -p "$2" "$2.new"; else : >"$2.new"; fi || return 1
  cat "$1" >"$2.new" && sync "$2.new" && mv "$2.new" "$2" && sync "$(dirname "$2")"
}

# The installed package as a .deb: the file it came from, where that is here, else made of its files as they are.
save_package() {
  if [ -e $state/current.deb ] &&
    dpkg-deb --ctrl-tarfile $state/current.deb | tar -xO ./md5sums 2>/dev/null | cmp -s - /var/lib/dpkg/info/$name.md5sums; then
    cp $state/current.deb "$1"
    return
  fi
  tree=$1.tree
  mkdir -p "$tree/DEBIAN" && chmod 755 "$tree" "$tree/DEBIAN" || return 1
  dpkg-query -s $name | awk '/^ / && skip {next} {skip = 0} /^(Status|Conffiles|Config-Version):/ {skip = 1; next} {print}' \
    >"$tree/DEBIAN/control" || return 1
  for script in /var/lib/dpkg/info/$name.*; do
    case $script in *.list) ;; *) cp -p "$script" "$tree/DEBIAN/${script##*.}" || return 1 ;; esac
  done
  dpkg-query -L $name | while read -r path; do
    # Links to folders are the system's: /lib is one.
    if [ ! -d "$path" ] && [ -e "$path" ]; then echo "${path#/}"; fi
  done | tar -C / --no-recursion -cf - -T - | tar -C "$tree" -xf - || return 1
  # The configuration was the owner's. Were it packed as it is, dpkg would take it for the package's own, and the next
  # upgrade would replace it.
  if [ -e "$tree/DEBIAN/conffiles" ]; then
    while read -r path; do
      if [ -e "$tree$path" ]; then echo "# as it was on the device" >>"$tree$path"; else echo >&2 "no $path"; fi
    done <"$tree/DEBIAN/conffiles"
  fi
  dpkg-deb -Zgzip -z1 --root-owner-group --build "$tree" "$1" >/dev/null && rm -rf "$tree"
}

# Keeps everything that going back takes, before anything is changed.
save() {
  new=$state/previous.new
  rm -rf $new
  mkdir -p $new || return 1
  version >$new/version
  if [ -s $new/version ]; then save_package $new/package.deb || return 1; fi
  for file in $bundle $config; do
    if [ -e $file ]; then cp -p $file $new/ || return 1; fi
  done
  if [ "$(systemctl is-active $name)" = active ]; then : >$new/active; fi
  if systemctl is-enabled --quiet $name 2>/dev/null; then : >$new/enabled; fi
  sync
  rm -rf $state/previous && mv $new $state/previous && : >$state/pending && sync
}

change() {
  dpkg --force-confold --force-confmiss -i "$1/package.deb" </dev/null || return 1
  if [ -e "$1/model.salad" ]; then put "$1/model.salad" $bundle || return 1; fi
  if [ -e "$1/edge.toml" ]; then put "$1/edge.toml" $config || return 1; fi
}

# Starts the service and watches it for some seconds. systemctl waits until it has said that it is ready (Type=notify).
healthy() {
  systemctl daemon-reload
  systemctl reset-failed $name 2>/dev/null
  systemctl enable $name 2>/dev/null || { say "$name cannot be enabled"; return 1; }
  if ! timeout $start_limit systemctl restart $name; then
    say "$name did not become ready; its last words:"
    journalctl --unit=$name --lines=8 --no-pager --output=cat 2>/dev/null
    return 1
  fi
  if [ -e $bundle ]; then /usr/bin/$name inspect $bundle >/dev/null || { say "$name inspect refuses $bundle"; return 1; }; fi
  pid=$(property MainPID)
  second=0
  while [ $second -lt "$1" ]; do
    sleep 1
    second=$((second + 1))
    if [ "$(systemctl is-active $name)" != active ] || [ "$(property MainPID)" != "$pid" ]; then
      say "$name ended or was started again after $second s; its last words:"
      journalctl --unit=$name --lines=8 --no-pager --output=cat 2>/dev/null
      return 1
    fi
  done
  case $(property WatchdogUSec) in
    '' | 0 | infinity) ;;
    *) [ -n "$(property WatchdogTimestamp)" ] || { say "$name has not told its watchdog that it lives"; return 1; } ;;
  esac
  say "$name $(version) has been up for $1 s: $(property StatusText)"
}

restore_file() {
  if [ -e "$state/previous/${1##*/}" ]; then put "$state/previous/${1##*/}" "$1"; else rm -f "$1"; fi
}

# Puts back what save kept. A package that was not there before is removed; the service's data stay.
restore_files() {
  [ -e $state/previous/version ] || { say "nothing is kept to go back to"; return 1; }
  if [ -s $state/previous/version ]; then
    dpkg --force-confold --force-confmiss --force-downgrade -i $state/previous/package.deb </dev/null || return 1
    cp $state/previous/package.deb $state/current.deb || return 1
  else
    if [ -n "$(version)" ]; then dpkg -r $name </dev/null || return 1; fi
    rm -f $state/current.deb
  fi
  restore_file $bundle && restore_file $config
}

restore() {
  restore_files || return 1
  if [ -e $state/previous/active ]; then
    healthy "$1" || return 1
  elif [ -n "$(version)" ]; then
    systemctl stop $name
  fi
  if [ -n "$(version)" ] && [ ! -e $state/previous/enabled ]; then systemctl disable $name 2>/dev/null; fi
  rm -f $state/pending
  sync
}

described() { if [ -s $state/previous/version ]; then echo "$name $(cat $state/previous/version)"; else echo "no $name"; fi; }

back_or_fail() {
  say "going back to $(described)"
  if restore "$1"; then
    say "rolled back: there is $(described) again, with bundle and configuration as before"
    exit 2
  fi
  say "going back failed: what was there before lies in $state/previous"
  exit 3
}

install_all() {
  stage=$1
  (cd "$stage" && sha256sum --check --quiet sums) || refuse "the files came over damaged: try again"
  # The program from the package reads the bundle before anything is changed: it tells whether both suit this device.
  dpkg-deb --fsys-tarfile "$stage/package.deb" | tar -x -C "$stage" ./usr/bin/$name || refuse "the package holds no $name"
  wanted=$bundle
  if [ -e "$stage/model.salad" ]; then wanted=$stage/model.salad; fi
  [ -e "$wanted" ] || refuse "there is no bundle on the device: name one with --bundle"
  "$stage/usr/bin/$name" inspect "$wanted" >/dev/null || refuse "$name from this package cannot run here or refuses the bundle"
  if [ -e $state/pending ]; then
    say "an earlier flash was interrupted: back to $(described) first"
    restore_files || { say "going back failed: what was there before lies in $state/previous"; exit 3; }
  else
    save || refuse "what is there now could not be saved: is $state full?"
    say "kept what is there now: $(described)"
  fi
  if ! change "$stage"; then
    say "the installation failed"
    back_or_fail "$2"
  fi
  healthy "$2" || back_or_fail "$2"
  cp "$stage/package.deb" $state/current.deb.new && mv $state/current.deb.new $state/current.deb
  rm -f $state/pending
  sync
}

mkdir -p $state && chmod 700 $state || refuse "no right to write $state"
exec 9>$state/lock
# A maintainer script must not hold the lock when this has ended, hence 9>&- where programs that stay are started.
flock --nonblock 9 || refuse "another flash is under way on this device: wait for it"
case ${1:-} in
  install) install_all "$2" "$3" 9>&- ;;
  rollback) restore "$2" 9>&- || exit 3; say "back to $(described)" ;;
  *) refuse "unknown action" ;;
esac
