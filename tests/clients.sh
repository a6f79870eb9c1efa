#!/usr/bin/env bash
# Install the client programs that some tests drive, where that is possible: Debian, as root.
set -euo pipefail

declare -A packages=(
    [curl]=curl [fetchmail]=fetchmail [getmail]=getmail6 [mbsync]=isync [mutt]=mutt
    [neomutt]=neomutt [npm]=npm [offlineimap]=offlineimap3 [swaks]=swaks
)

missing=()
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done

if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tests/clients.sh: not installed: ${missing[*]}; the tests that need them will fail" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
