#!/usr/bin/env bash
# Measures attribution: how often it names what is known to be wrong, on simulated experiments.
#
# usage: scripts/attribution-eval.sh [ARGUMENT...]
#
#   scripts/attribution-eval.sh                           all causes, pairs and 500 clean runs
#   scripts/attribution-eval.sh --seed 1001 --check       held-out seed; exit 1 below what is promised
#   scripts/attribution-eval.sh --strength 0.7 --json     one strength; one JSON value on stdout
#   scripts/attribution-eval.sh --cause network --explain one cause with all its evidence
#
# All arguments go to attribution-eval as they are; --help shows them. docs/attribution.md says
# what is simulated and what the figures mean. No GPU, engine or network is needed; without a
# build it takes a minute or two of one core. exit: 0 measured, 1 failed or below with --check,
# 64 bad usage.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# From the root: that is where rustup looks for rust-toolchain.toml.
(cd "$root" && cargo build --release --locked --quiet -p attribution-eval) >&2

target=${CARGO_TARGET_DIR:-target}
case $target in
  /*) ;;
  *) target=$root/$target ;;
esac
exec "$target/release/attribution-eval" "$@"
