# The two commands: `make run` starts two intercom stations on this machine, `make test` runs the tests.
# Both set up what is missing first; a second start takes a moment and needs no network.
SHELL := /bin/sh
.PHONY: run test test-peers test-long bench model screenshots setup lint format clean
export PATH := $(CURDIR)/.toolchain/bin:$(PATH)

run: setup
	@exec ./entryphone run $(ARGS)

test: setup
	@node dist/test/support/run-tests.js

# Against programs that are not ours: the flows' editor in Debian's Chromium. The first time it needs the network.
test-peers: setup
	@sh setup/setup.sh peers
	@node dist/test/support/run-tests.js --peers $(ARGS)

# What takes minutes: a Debian booted with the units, its processes killed and hung. Needs root; the first time also the network.
test-long: setup
	@sh setup/setup.sh long
	@node dist/test/support/run-tests.js --long $(ARGS)

bench: 
	@sh setup/setup.sh bench
	@node dist/bench/main.js $(ARGS)

# The model that ships, made and measured anew (docs/hearing.md): some minutes, the same bytes each time.
model: setup
	@node dist/training/main.js $(ARGS)

# The pictures of docs/, taken anew of what runs.
screenshots:
	@sh setup/setup.sh docs
	@node dist/bench/editor-picture.js docs/editor.png
	@node dist/bench/palette-picture.js docs/palette.png
	@node dist/bench/run-picture.js docs/run.png

setup:
	@sh setup/setup.sh

lint: setup
	@node_modules/@biomejs/cli-linux-*/biome check .

format: setup
	@node_modules/@biomejs/cli-linux-*/biome check --write .

clean:
	rm -rf dist node_modules .toolchain native/build var
