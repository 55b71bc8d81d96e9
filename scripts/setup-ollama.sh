#!/usr/bin/env bash
# Builds an Ollama from source and gives it the weights: for checks against the real thing on a
# machine without one. Optional: nothing else here needs it, and an installed Ollama is better.
#
# usage: scripts/setup-ollama.sh            build or check
#        eval "$(scripts/setup-ollama.sh)"  the same, and set the variables in this shell
#
# It needs Go 1.24 or newer on PATH, a C++ compiler and two Debian packages of headers (installed
# as root, otherwise named). The first build takes 5 minutes or more on 2 cores. The result is
# ${XDG_CACHE_HOME:-$HOME/.cache}/chimera/bin/ollama, CPU only, built for this very processor, with
# the model `gemma3-270m` in the folder that OLLAMA_MODELS names. Start one on a port of its own:
#
#   OLLAMA_HOST=127.0.0.1:11500 ollama serve
#
# stdout holds nothing but the `export` lines of PATH and OLLAMA_MODELS.
set -euo pipefail

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
  '') ;;
  *) echo "scripts/setup-ollama.sh takes no arguments: see scripts/setup-ollama.sh --help" >&2; exit 64 ;;
esac

# shellcheck source=scripts/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

# The newest version whose model runner is part of the Go module: later ones start a llama-server
# that the module does not hold.
OLLAMA_VERSION=v0.17.4
# One header is in no Debian package; this source package has it.
MINIAUDIO_PIN="miniaudio==1.71 --hash=sha256:ff51e2887bb673e2e757752b586b3dc924d59aa5fbcae9bbc45f4a111bd3262b"
MODEL_NAME=gemma3-270m

binary=$cache/bin/ollama
models=$cache/ollama-models
built_as=$cache/bin/.ollama-$OLLAMA_VERSION
server=

stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  server=
}
trap stop_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

build() {
  local work=$cache/ollama-build
  command -v go >/dev/null 2>&1 || die "go is not installed: building Ollama needs Go 1.24 or newer on PATH"
  need c++ build-essential "building Ollama"
  [ -e /usr/include/nlohmann/json_fwd.hpp ] || install_package nlohmann-json3-dev "building Ollama needs nlohmann/json_fwd.hpp"
  [ -e /usr/include/stb/stb_image.h ] || install_package libstb-dev "building Ollama needs stb/stb_image.h"
  find_pip
  rm -rf "$work"
  mkdir -p "$work/include/miniaudio"
  # Go leaves folders called `vendor` out of modules, and with them these headers of llama.cpp.
  printf '%s\n' "$MINIAUDIO_PIN" >"$work/pins"
  "${pip[@]}" download --quiet --disable-pip-version-check --no-deps --no-binary miniaudio --require-hashes \
    --requirement "$work/pins" --dest "$work" >&2 || die "the miniaudio source package could not be downloaded"
  tar -xzf "$work"/miniaudio-*.tar.gz -O --wildcards '*/miniaudio/miniaudio.h' >"$work/include/miniaudio/miniaudio.h"
  say "building Ollama $OLLAMA_VERSION: this takes minutes"
  GOBIN=$work CGO_ENABLED=1 CPLUS_INCLUDE_PATH=$work/include \
    CGO_CFLAGS="-O3 -march=native" CGO_CXXFLAGS="-O3 -march=native" \
    go install -ldflags "-X github.com/ollama/ollama/version.Version=${OLLAMA_VERSION#v}" \
    "github.com/ollama/ollama@$OLLAMA_VERSION" >&2 || die "Ollama $OLLAMA_VERSION does not build here"
  rm -f "$cache"/bin/.ollama-*
  mv -f "$work/ollama" "$binary"
  touch "$built_as"
  rm -rf "$work"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# The model is made by a server of our own on a free port, which then ends.
add_model() {
  local file=$cache/ollama-modelfile
  OLLAMA_HOST=127.0.0.1:$(free_port)
  export OLLAMA_HOST OLLAMA_MODELS=$models
  "$binary" serve >"$cache/ollama-serve.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    "$binary" list >/dev/null 2>&1 && break
    kill -0 "$server" 2>/dev/null || die "ollama serve ended at once: see $cache/ollama-serve.log"
    sleep 0.2
  done
  if [ -z "$("$binary" list | awk -v name="$MODEL_NAME:latest" '$1 == name')" ]; then
    printf 'FROM %s\n' "$CHIMERA_MODEL_GGUF" >"$file"
    "$binary" create "$MODEL_NAME" -f "$file" >/dev/null 2>"$cache/ollama-create.log" ||
      die "the model could not be added: see $cache/ollama-create.log"
    rm -f "$file"
  fi
  stop_server
}

lock_cache
setup_model
unlock_cache
# A lock of its own: the build is long, and other set-ups need not wait for it.
exec {build_lock}>"$cache/.ollama-lock"
flock "$build_lock"
if [ ! -x "$binary" ] || [ ! -e "$built_as" ]; then build; fi
add_model
exec {build_lock}>&-
say "ollama $OLLAMA_VERSION: $binary, with the model $MODEL_NAME in $models"
printf 'export PATH=%q\nexport OLLAMA_MODELS=%q\n' "$cache/bin:$PATH" "$models"
