#!/bin/sh
# Joins each of a station's programs with what it imports into one file, in the place of the compiled one: it starts in half the
# time and holds a tenth less memory, since what nobody calls (zod brings 50 languages) is left out. What loads native modules or
# files of its own stays a module.
set -eu
cd "$(dirname "$0")/.."
modules='alsa-capture @discordjs/opus libopus-wasm onnxruntime-node onoff node-red @node-red/*'
# shellcheck disable=SC2046 # words
exec node_modules/@esbuild/linux-*/bin/esbuild dist/src/bin/media.js dist/src/bin/station.js dist/src/bin/inference.js dist/src/bin/relay-safe.js \
  --bundle --splitting --platform=node --format=esm --target=node24 --keep-names --minify-whitespace --line-limit=160 \
  --charset=ascii --legal-comments=none --outbase=dist/src --outdir=dist/src --allow-overwrite --log-level=warning \
  --chunk-names=bin/chunks/[hash] \
  $(printf -- '--external:%s ' $modules) \
  --banner:js='import{createRequire as requireOf}from"node:module";const require=requireOf(import.meta.url),__filename=import.meta.filename,__dirname=import.meta.dirname;'
