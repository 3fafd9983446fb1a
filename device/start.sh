#!/bin/sh
# Starts a program of the release that this file is part of.
#
#   start.sh PROGRAM [ARGUMENT...]   station, media, flows, ...: dist/src/bin/PROGRAM.js
#   start.sh check                   says "whole" where there is a Node.js to run them
set -u
here=$(readlink -f "$0")
here=${here%/device/start.sh}
node=$here/.toolchain/bin/node
[ -x "$node" ] || { echo "start: $node is missing" >&2; exit 69; }
[ "$1" != check ] || { echo whole; exit 0; }
program=$1
shift
exec "$node" --disable-warning=ExperimentalWarning --max-semi-space-size=1 "$here/dist/src/bin/$program.js" "$@"
