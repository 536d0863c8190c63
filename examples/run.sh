#!/bin/sh
# What `make run` does once all is installed: the demonstration receiver, and `letterlock up` on the quickstart.
set -eu
cd "$(dirname "$0")/.."
state=.letterlock/quickstart
mkdir -p -m 700 "$state"
notes="$state/receiver.log"
: >"$notes"
cat <<TEXT

Send a first message, from another terminal, with either of:

  swaks --server localhost:2525 --tls --from you@example.net --to hello@example.com --header 'Subject: Hello'

  (sleep 1; printf 'EHLO me\r\nMAIL FROM:<you@example.net>\r\nRCPT TO:<hello@example.com>\r\nDATA\r\n'; sleep 1
   printf 'Subject: Hello\r\n\r\nIt works.\r\n.\r\nQUIT\r\n') | openssl s_client -quiet -starttls smtp -connect localhost:2525

It goes over STARTTLS to Letterlock, from there over verified TLS to a small receiver, and lies in
$state/mailbox/. The log is in $state/log/default-0.log. Ctrl-C ends it all.

TEXT
.venv/bin/python examples/receiver.py "$state" >>"$notes" 2>&1 &
receiver=$!
trap 'kill "$receiver" 2>/dev/null || true' EXIT
.venv/bin/letterlock up examples/quickstart --state "$state" --notes "$notes" &
up=$!
# Ctrl-C reaches both of us, a plain kill only this shell: either way `letterlock up` ends in order, then the rest.
trap 'kill "$up" 2>/dev/null || true' INT TERM
status=0
wait "$up" || status=$?
while kill -0 "$up" 2>/dev/null; do wait "$up" || status=$?; done
exit "$status"
