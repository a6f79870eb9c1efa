#!/usr/bin/env bash
# again.sh COMMAND...: run what asks a package registry or waits for apt's lock, three times at most.
for pause in 10 60; do
    "$@" && exit 0
    echo "again in $pause seconds: $*" >&2
    sleep "$pause"
done
exec "$@"
