#!/usr/bin/env bash
# Checks everything: what CI runs and what to run before handing in a change.
#
# usage: scripts/test.sh
#
# In order, stopping at the first that fails: set-up, shell scripts, format, clippy, docs,
# dependency rules, licences and sources, build, benchmarks compile, tests. The tests run against
# the real nats-server, the real llama-server and the real weights that set-up puts into the
# cache. About 12 minutes on 2 cores once the packages are compiled.
#
# exit: 0 all good, 1 a stage failed, 130 or 143 stopped by a signal
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=scripts/lib/setup.sh
. scripts/lib/setup.sh

case ${1:-} in
  '') ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
  *) echo "scripts/test.sh takes no arguments: see scripts/test.sh --help" >&2; exit 64 ;;
esac

# Each stage runs in a process group of its own, so that whatever it started can be ended.
set -m
group=
times=()
current=
begun=0

end_group() {
  [ -n "$group" ] || return 0
  if kill -TERM -- "-$group" 2>/dev/null; then
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      kill -0 -- "-$group" 2>/dev/null || break
      sleep 0.3
    done
    kill -KILL -- "-$group" 2>/dev/null || true
  fi
  group=
}

summary() {
  local code=$?
  trap '' INT TERM
  end_group
  local spent=''
  if [ ${#times[@]} -gt 0 ]; then spent=$(printf ', %s' "${times[@]}"); fi
  if [ "$code" = 0 ]; then
    printf '\n[test] all stages are good after %d s: %s\n' "$SECONDS" "${spent#, }"
  else
    printf '\n[test] FAILED in stage: %s (after %d s)%s\n' "${current:-start}" $((SECONDS - begun)) "${spent:+; before it: ${spent#, }}"
  fi
  exit "$code"
}
trap summary EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

begin() {
  current=$1
  begun=$SECONDS
  printf '\n[test] ---- %s\n' "$current"
}

finish() { times+=("$current $((SECONDS - begun)) s"); }

# stage NAME COMMAND...
stage() {
  local code=0
  begin "$1"
  shift
  # A background group must not read the terminal.
  "$@" </dev/null &
  group=$!
  wait "$group" || code=$?
  end_group
  [ "$code" = 0 ] || exit 1
  finish
}

check_scripts() {
  local script
  for script in .ci/run scripts/*.sh scripts/lib/*.sh; do bash -n "$script" || return 1; done
  if command -v shellcheck >/dev/null 2>&1; then
    shellcheck --severity=warning --external-sources --source-path=. .ci/run scripts/*.sh scripts/lib/*.sh
  else
    echo "[test] SKIPPED: shellcheck is not installed, so the scripts were only parsed"
  fi
}

check_docs() { RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked; }

check_licences() {
  local log code=0
  "$cargo_deny" --offline check --hide-inclusion-graph bans licenses sources || return 1
  # The advisory database comes from outside the registry and changes without us: what it says is
  # shown, and is no failure of this checkout.
  log=$(timeout 60 "$cargo_deny" check --hide-inclusion-graph advisories 2>&1) || code=$?
  if [ "$code" = 0 ]; then
    echo "[test] no known advisory concerns a dependency"
  elif [ "$code" = 124 ] || [[ $log = *"failed to fetch advisory database"* ]]; then
    echo "[test] SKIPPED: the advisory database is out of reach, so known vulnerabilities were not looked for"
  else
    printf '%s\n[test] ADVISORIES: see above (not counted as a failure)\n' "$log"
  fi
}

# Compiled as tests are, so that it costs little: it shows that they build, not how fast they are.
check_benches() {
  local packages package with=()
  packages=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c '
import json, sys
for package in json.load(sys.stdin)["packages"]:
    if any("bench" in target["kind"] for target in package["targets"]):
        print(package["name"])')
  for package in $packages; do with+=(--package "$package"); done
  if [ ${#with[@]} -eq 0 ]; then
    echo "[test] no package has benchmarks"
    return
  fi
  cargo bench --locked --profile dev --no-run "${with[@]}" --bench '*'
}

begin "set-up"
setup_all
lock_cache
setup_cargo_deny
unlock_cache
for tool in fmt clippy; do
  cargo "$tool" --version >/dev/null 2>&1 ||
    die "cargo $tool is missing; run: rustup component add rustfmt clippy"
done
finish

stage "shell scripts" check_scripts
stage "format" cargo fmt --all --check
stage "clippy" cargo clippy --workspace --all-targets --locked -- -D warnings
stage "docs" check_docs
stage "dependency rules" scripts/check-deps.sh
stage "licences and sources" check_licences
stage "build" cargo build --workspace --locked
stage "benchmarks compile" check_benches
stage "tests" cargo test --workspace --locked --no-fail-fast
