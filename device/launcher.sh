#!/bin/sh
# Starts a program of the release that is to run. Stands outside the slots and is not updated with them: it is what brings a
# station back when a release is bad, so it needs nothing but a shell and coreutils.
#
#   launcher.sh SLOTS start PROGRAM [ARGUMENT...]   the station's own start: counted while its release is on trial
#   launcher.sh SLOTS run   PROGRAM [ARGUMENT...]   every other program
#
# In SLOTS:
#   a/ b/      a release each; whole when it has a manifest.json, which is written last, and a Node.js
#   current    -> a | b   what runs
#   previous   -> a | b   the last release that was confirmed
#   trying     "slot=b starts=0"   that slot is on trial: unlinked when it is confirmed; of another slot than current it means nothing
#   back       why we went back, for the station to tell and to unlink
#
# A release on trial that has been started three times without being confirmed is left for the previous one. What is damaged,
# missing or can't be written never keeps a whole release from being started. Exit code 69 (EX_UNAVAILABLE): there is none.
# ENTRYPHONE_UPDATE_RESTART, if set, is a file that is written when a release is left: its other programs are to be restarted too.
set -u
most_starts=3

say() { printf '%s\n' "launcher: $*" >&2; }
[ $# -ge 3 ] || { say 'usage: launcher.sh SLOTS start|run PROGRAM [ARGUMENT...]'; exit 64; }
slots=$1 verb=$2
shift 2
case $verb in start | run) ;; *) say "usage: $verb is neither start nor run"; exit 64 ;; esac
from=$PWD
cd "$slots" 2>/dev/null || { say "there are no slots at $slots"; exit 69; }

# named LINK: the slot that a link names, nothing where it names none
named() {
  to=$(readlink "$1" 2>/dev/null) || to=
  case $to in a | b) printf '%s' "$to" ;; esac
}
is_whole() { [ -n "$1" ] && [ -s "$1/manifest.json" ] && [ "$(sh "$1/device/start.sh" check 2>/dev/null)" = whole ]; }
# Each lasts through a power cut once it has succeeded, and is undone or done after one before: the file, then its name.
put() { { printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -fT "$1.new" "$1" && sync .; } 2>/dev/null; }
point() { { rm -f "$1.new" && ln -s "$2" "$1.new" && mv -fT "$1.new" "$1" && sync .; } 2>/dev/null; }

# go_back WHY: to the previous release, if it is whole; the trial is over then
go_back() {
  before=$(named previous)
  if [ "$before" = "$current" ] || ! is_whole "$before"; then
    say "$1, but there is no other whole release to go back to"
    return
  fi
  say "$1: going back from slot $current to slot $before"
  # The reason first: a power cut in between leaves the trial as it is, and the next start comes here again.
  if put back "from=$current to=$before reason=$1" && point current "$before" && rm -f trying && sync .; then :; else
    say 'this could not be written down; it holds for this start'
  fi
  current=$before
  [ -z "${ENTRYPHONE_UPDATE_RESTART:-}" ] || { printf '%s\n' "$1" >"$ENTRYPHONE_UPDATE_RESTART"; } 2>/dev/null ||
    say 'the other programs could not be restarted: they are of the release that was left'
}

current=$(named current)
if [ "$verb" = start ] && { [ -e trying ] || [ -L trying ]; }; then
  trial=$(head -c 32 trying 2>/dev/null | tr -d '\000\n')
  case $trial in
    'slot='[ab]' starts='[0-9])
      slot=${trial#slot=} slot=${slot%% *} starts=${trial##*=}
      if [ "$slot" != "$current" ]; then :
      elif [ "$starts" -ge $most_starts ]; then go_back "not confirmed after $starts starts"
      # One that can't be counted could be started for ever.
      elif ! put trying "slot=$slot starts=$((starts + 1))"; then go_back 'its starts cannot be counted'
      fi
      ;;
    *) go_back 'the record of its trial is damaged' ;;
  esac
fi
if ! is_whole "$current"; then
  say "the current release (${current:-none}) is not whole"
  for other in "$(named previous)" a b; do
    if is_whole "$other"; then
      put back "from=${current:-none} to=$other reason=not whole"
      point current "$other"
      rm -f trying 2>/dev/null
      current=$other
      break
    fi
  done
fi
is_whole "$current" || { say 'there is no whole release: put one there (entryphone install --slots)'; exit 69; }
slot=$PWD/$current
cd "$from" || exit 69
exec sh "$slot/device/start.sh" "$@"
