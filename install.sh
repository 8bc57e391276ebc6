#!/bin/bash
# Builds the package for this machine's release, installs it, and says where Jupyter is.
#
#   sudo ./install.sh
#
# debconf asks for the password on this terminal; without a terminal nobody is asked, and a link that
# logs in is printed instead. On a machine that systemd does not run (a container, a CI runner) the
# package goes into a small booted system of its own beside it: tools/box shell jupyter-remote
#
# It can be run again at any time: what is there already is not made again.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\e[1m== %s\e[0m\n' "$*" >&2; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit 69; }

[ "$(id -u)" = 0 ] || { echo "install.sh: installing needs root: sudo ./install.sh" >&2; exit 77; }
command -v apt-get >/dev/null || fail "this is made for Debian and Ubuntu; there is no apt-get here"
[ -t 0 ] && [ -t 1 ] || export DEBIAN_FRONTEND=noninteractive

if ! command -v python3 >/dev/null; then
    say "installing python3"
    apt-get -qq update && apt-get -qq install --yes --no-install-recommends python3 >/dev/null
fi
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "this release has $(python3 --version); Python 3.11 is needed (Debian 12, Ubuntu 24.04 or newer)"

say "building the package (minutes the first time, seconds afterwards)"
tools/build-deb >/dev/null
deb=$PWD/jupyter-remote.deb

# Where it is installed: here, or in a box.
box=jupyter-remote
if [ -d /run/systemd/system ]; then
    there() { sh -c "$1"; }
    install_there() { apt-get install --yes --reinstall "$1"; }
else
    say "systemd does not run this machine: booting a system beside it"
    . /etc/os-release
    address=$(tools/box up "$box" "$VERSION_CODENAME")
    there() { tools/box shell "$box" "$1"; }
    install_there() { tools/box install "$box" "$1"; }
fi

# A reinstallation restarts the server, so it is done only when there is something new.
# (A package that is configured has no other state; its checksums say which build it is.)
state=$(there "dpkg-query -W -f '\${Status}' jupyter-remote 2>/dev/null; cat /var/lib/dpkg/info/jupyter-remote.md5sums 2>/dev/null; true" | sha256sum)
if [ "$state" = "$({ printf 'install ok installed'; dpkg-deb --info "$deb" md5sums; } | sha256sum)" ]; then
    say "this build is installed already"
else
    say "installing it"
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    # apt reads it as another user, who may not look into a home directory.
    chmod 755 "$copy" && cp jupyter-remote.deb "$copy/"
    install_there "$copy/jupyter-remote.deb"
fi

locked=$(there 'head -c 1 /etc/jupyter-remote/password-hash')
if [ "$locked" = '!' ]; then
    url=$(there 'jupyter-remote url 2>/dev/null')
    say "Jupyter answers here; no password is set, this link logs in once within 10 minutes:"
else
    url=$(there 'jupyter-remote url --plain')
    say "Jupyter answers here:"
fi
# Nobody but the box itself knows its name.
[ -z "${address:-}" ] || url=$(printf '%s' "$url" | sed -E "s#^(https?://)[^/]+#\1$address#")
printf '%s\n' "$url"
