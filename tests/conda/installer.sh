#!/bin/sh
#
# NAME:  @NAME@
# VER:   @VERSION@
# PLAT:  @PLATFORM@
# MD5:   @MD5@
#
# A stand-in for the installers that constructor makes: their options, messages and exit codes.
# The payload, a tar.gz of the base environment, begins at byte @OFFSET@.

if ! echo "$0" | grep '\.sh$' > /dev/null; then
    printf 'Please run using "bash"/"dash"/"sh"/"zsh", but not "." or "source".\n' >&2
    exit 1
fi

THIS_PATH=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
PREFIX=${HOME:-/opt}/@DIRECTORY@
BATCH=0
FORCE=0
USAGE="
usage: $0 [options]

Installs @NAME@ @VERSION@

-b           run install in batch mode (without manual intervention),
             it is expected the license terms (if any) are agreed upon
-f           no error if install prefix already exists
-h           print this help message and exit
-p PREFIX    install prefix, defaults to $PREFIX, must not contain spaces.
-s           skip running pre/post-link/install scripts
-u           update an existing installation
"
while getopts "bfhp:su" option; do
    case $option in
        h) printf '%s\n' "$USAGE"; exit 2 ;;
        b) BATCH=1 ;;
        f | u) FORCE=1 ;;
        p) PREFIX=$OPTARG ;;
        s) ;;
        *) printf "ERROR: did not recognize option '%s', please try -h\n" "$option"; exit 1 ;;
    esac
done

if [ "$BATCH" = 0 ]; then
    printf '\nWelcome to @NAME@ @VERSION@\n\nDo you accept the license terms? [yes|no]\n>>> '
    read -r answer
    if [ "$answer" != yes ]; then
        printf "The license agreement wasn't approved, aborting installation.\n"
        exit 2
    fi
fi

case $PREFIX in
    *\ *)
        printf 'ERROR: Cannot install into directories with spaces\n' >&2
        exit 1
        ;;
esac
if [ "$FORCE" = 0 ] && [ -e "$PREFIX" ]; then
    printf "ERROR: File or directory already exists: '%s'\n" "$PREFIX" >&2
    printf 'If you want to update an existing installation, use the -u option.\n' >&2
    exit 1
fi
if ! mkdir -p "$PREFIX"; then
    printf "ERROR: Could not create directory: '%s'\n" "$PREFIX" >&2
    exit 1
fi
PREFIX=$(cd "$PREFIX" && pwd)
printf 'PREFIX=%s\n' "$PREFIX"

payload() { tail -c +@OFFSET@ "$THIS_PATH"; }

# as with constructor's, only the unpacking of a damaged archive is an error
got=$(payload | md5sum -)
if [ "${got%% *}" != @MD5@ ]; then
    printf 'WARNING: md5sum mismatch of tar archive\nexpected: @MD5@\n     got: %s\n' "${got%% *}" >&2
fi
printf 'Unpacking payload ...\n'
payload | tar -xzf - --no-same-owner -C "$PREFIX" || exit 1

# the base environment was made elsewhere
cd "$PREFIX" || exit 1
escaped=$(printf %s "$PREFIX" | sed 's/[&|\\]/\\&/g')
xargs sed -i "s|@BUILT_AT@|$escaped|g" < .files-with-prefix || exit 1
rm .files-with-prefix
{ echo channels: && printf '  - %s\n' @CHANNELS@; } > .condarc
mkdir -p envs pkgs "$HOME/.conda"
grep -qxF "$PREFIX" "$HOME/.conda/environments.txt" 2> /dev/null || echo "$PREFIX" >> "$HOME/.conda/environments.txt"

printf 'installation finished.\n'
exit 0
