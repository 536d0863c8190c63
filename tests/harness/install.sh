#!/bin/sh
# Installs what the tests need beside Python on a bare Debian machine; quick when all is there. `make test` runs it.
# postfix, exim, swaks and openssl are real peers for the mail tests (features.md: a row counts only with a real peer).
set -eu

missing=""
need() { # PROGRAM PACKAGE...
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1 && return
    shift
    missing="$missing $*"
}
# Networks of their own for the tests (tests/everything.sh).
need ip iproute2
need postfix postfix
need curl curl
# The management pages: users as people make them, and a real browser.
need htpasswd apache2-utils
need chromium chromium fonts-dejavu-core
need swaks swaks libnet-ssleay-perl
need openssl openssl
need keytool default-jre-headless
need testssl testssl.sh
# A TLS client that is not OpenSSL's, and the load balancer that the PROXY protocol comes from.
need gnutls-cli gnutls-bin
need haproxy haproxy
# Shells that complete our commands.
need zsh zsh
need fish fish
need slapd slapd
need ldapadd ldap-utils
# Debian has either Postfix or Exim: what Exim needs is installed, and itself unpacked beside, where its own user can read.
exim=/opt/letterlock-exim
[ -x $exim/usr/sbin/exim4 ] && id Debian-exim >/dev/null 2>&1 || missing="$missing libidn12 libdb5.3 libgnutls-dane0"
# Postfix that wants a sign-in, and name servers: peers of the delivery tests.
need saslpasswd2 sasl2-bin libsasl2-modules
need unbound unbound
need nsd nsd
# tests/harness/faults.c, which makes disks fail and clocks jump.
need cc gcc libc6-dev
# A mail program that parses what we send back to senders.
need reformime maildrop
# What a node is made of, and images (tests/cluster).
need runc runc
need nft nftables
need conntrack conntrack
need ip iproute2
[ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
need buildah buildah
need mmdebstrap mmdebstrap
# swaks speaks TLS only with this module, and does not depend on it.
[ -n "$(find /usr/lib /usr/share/perl5 /usr/local/lib /usr/local/share/perl -name SSLeay.pm -print -quit 2>/dev/null)" ] ||
    missing="$missing libnet-ssleay-perl"
# Of Prometheus nothing but promtool, which judges metrics and rules: unpacked, so that no daemon comes with it.
prometheus=/opt/letterlock-prometheus
[ -n "$missing" ] || [ ! -x $prometheus/usr/bin/promtool ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "These packages are missing and only root can install them:$missing (and promtool of prometheus)" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# No daemon of the package's own: invoke-rc.d asks this program before it starts a service, and 101 means "no".
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# Only where nobody has chosen yet: a configuration without any delivery of its own.
if ! dpkg -s postfix >/dev/null 2>&1; then
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
fi
apt-get update -q
# shellcheck disable=SC2086 # one word a package
[ -z "$missing" ] || apt-get install -q -y --no-install-recommends $missing
if [ ! -x $exim/usr/sbin/exim4 ]; then
    fetched=$(mktemp -d)
    (cd "$fetched" && apt-get download -q -o APT::Sandbox::User=root exim4-daemon-light && dpkg -x ./*.deb "$exim")
    rm -rf "$fetched"
fi
if [ ! -x $prometheus/usr/bin/promtool ]; then
    fetched=$(mktemp -d)
    (cd "$fetched" && apt-get download -q -o APT::Sandbox::User=root prometheus && dpkg -x ./*.deb "$fetched/all")
    install -D "$fetched/all/usr/bin/promtool" $prometheus/usr/bin/promtool
    rm -rf "$fetched"
fi
# It is built to run as this user.
id Debian-exim >/dev/null 2>&1 || useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
