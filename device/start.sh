#!/bin/sh
# Starts a program of the release that this file is part of.
#
#   start.sh PROGRAM [ARGUMENT...]   station, media, flows, ...: dist/src/bin/PROGRAM.js
#   start.sh check                   says "whole" where there are those without which there is no station, and a Node.js to run them
set -u
here=$(readlink -f "$0")
here=${here%/device/start.sh}
node=$here/.toolchain/bin/node
[ -x "$node" ] || { echo "start: $node is missing" >&2; exit 69; }
if [ "$1" = check ]; then
  for program in station media; do
    [ -s "$here/dist/src/bin/$program.js" ] || { echo "start: $program is missing" >&2; exit 69; }
  done
  echo whole
  exit 0
fi
program=$1
shift
exec "$node" --disable-warning=ExperimentalWarning --max-semi-space-size=1 "$here/dist/src/bin/$program.js" "$@"
