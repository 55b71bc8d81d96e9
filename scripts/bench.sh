#!/usr/bin/env bash
# Measures on this machine: sets up what is needed, builds, and runs `chimera bench`.
#
# usage: scripts/bench.sh [ARGUMENT...]
#
#   scripts/bench.sh                       the quick job: a few minutes, results in the usual place
#   scripts/bench.sh --out DIR             the quick job, results in DIR
#   scripts/bench.sh --agents 3 --runs 5   the quick job at another size
#   scripts/bench.sh SPEC.toml --out DIR   the experiment that SPEC.toml describes
#   scripts/bench.sh --num-thread 2        one test of your own, without a spec
#
# All arguments go to `chimera bench` as they are, and --quick before them, unless they hold a
# spec (a name ending in .toml or .json), --num-thread (the quick job compares thread counts
# itself) or --quick already. `scripts/bench.sh --help` shows what chimera bench takes.
# Relative paths mean what they mean where you stand. The exit code is chimera's.
set -euo pipefail

# shellcheck source=scripts/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"
root=$(cd "$scripts_dir/.." && pwd)

quick=(--quick)
for argument in "$@"; do
  case $argument in
    *.toml | *.json | --quick | --num-thread | --num-thread=* | -h | --help) quick=() ;;
  esac
done

SECONDS=0
setup_all
printf '[bench] set-up: %d s\n' "$SECONDS" >&2

SECONDS=0
# From the root: that is where rustup looks for rust-toolchain.toml.
(cd "$root" && cargo build --release --locked --workspace --bins)
printf '[bench] build: %d s\n' "$SECONDS" >&2

target=${CARGO_TARGET_DIR:-target}
case $target in
  /*) ;;
  *) target=$root/$target ;;
esac
printf '[bench] running: chimera bench%s\n' "$(printf ' %q' ${quick[@]+"${quick[@]}"} "$@")" >&2
exec "$target/release/chimera" bench ${quick[@]+"${quick[@]}"} "$@"
