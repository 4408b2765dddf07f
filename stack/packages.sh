#!/bin/sh
# Install what is missing of COMMAND=PACKAGE ... from Debian's or Ubuntu's packages when root; else say what to type.
set -eu

missing=""
for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0
missing=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Needed, and not found on PATH: $missing" >&2
    echo "This system has no apt-get: install them as it does, or run with a Docker engine." >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "Needed, and not found on PATH: $missing" >&2
    echo "Type: sudo apt-get update && sudo apt-get install --no-install-recommends $missing" >&2
    exit 1
fi

echo "Installing from the distribution's packages: $missing"
# A package must not start its service: we run our own, with our own state, and the ports would be taken.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    exit 1
fi
rm -f "$log"
