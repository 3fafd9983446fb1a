# The two commands: `make run` starts two intercom stations on this machine, `make test` runs the tests.
# Both set up what is missing first; a second start takes a moment and needs no network.
SHELL := /bin/sh
.PHONY: run test test-peers bench setup lint format clean
export PATH := $(CURDIR)/.toolchain/bin:$(PATH)

run: setup
	@exec ./entryphone run $(ARGS)

test: setup
	@node dist/test/support/run-tests.js

bench: 
	@sh setup/setup.sh bench
	@node dist/bench/main.js $(ARGS)

setup:
	@sh setup/setup.sh

lint: setup
	@node node_modules/@biomejs/biome/bin/biome check .

format: setup
	@node node_modules/@biomejs/biome/bin/biome check --write .

clean:
	rm -rf dist node_modules .toolchain native/build var
