#!/bin/sh
# Joins each of a station's programs with what it imports into one file, in the place of the compiled one: it starts in half the
# time and holds a tenth less memory, since what nobody calls (zod brings 50 languages) is left out. What loads native modules or
# files of its own stays a module.
set -eu
cd "$(dirname "$0")/../dist/src/bin"
programs='media station inference relay-safe'
modules='alsa-capture @discordjs/opus libopus-wasm onnxruntime-node onoff node-red @node-red/*'
banner='import{createRequire as requireOf}from"node:module";const require=requireOf(import.meta.url),__filename=import.meta.filename,__dirname=import.meta.dirname;'
# The compiler writes again only what has changed: what it wrote is kept beside, for the next time.
for program in $programs; do
  case $(head -c 64 "$program.js") in 'import{createRequire as requireOf'*) ;; *) cp "$program.js" "$program.entry.js" ;; esac
done
rm -rf chunks
# shellcheck disable=SC2046,SC2086,SC2102 # words; a bracket of esbuild
exec ../../../node_modules/@esbuild/linux-*/bin/esbuild $(for program in $programs; do echo "$program=$program.entry.js"; done) \
  --bundle --splitting --platform=node --format=esm --target=node24 --keep-names --minify-whitespace --line-limit=160 \
  --charset=ascii --legal-comments=none --outdir=. --allow-overwrite --log-level=warning --chunk-names=chunks/[hash] \
  $(printf -- '--external:%s ' $modules) --banner:js="$banner"
