#!/usr/bin/env bash
# What does the probe cost, and how late are its stamps?
#
# usage: benches/probe_cpu.sh [STREAMS] [GAP_MS] [TOKENS] [ROUNDS]     (default 64 1 2000 3)
#
# Runs the fake engine (its own truth on record) on all cores but the last, and on the last core, in
# turn, the floor (benches/floor: hyper, one stamp per frame, nothing else) and the probe. Prints per
# round the CPU time per frame of both, their ratio, and the mean error of the probe's TTFT and of
# its token stamps against the truth. Targets: ratio at most 2, mean TTFT error below 1 ms.
# Needs: taskset, python3, and a quiet machine with at least 2 cores. On a busy one the frames pile
# up, both clients read many at a time, and neither cost nor lateness means anything; where it may
# be, `chrt -f 10 benches/probe_cpu.sh` as root puts the measured processes before all others.
set -euo pipefail
cd "$(dirname "$0")/.."

streams=${1:-64} gap_ms=${2:-1} tokens=${3:-2000} rounds=${4:-3}
target=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cargo build --release --quiet -p chimera-testkit --example fake_engine
cargo build --release --quiet -p chimera-cli --bin chimera
cargo build --release --quiet -p chimera-benches

last=$(($(nproc) - 1))
rest=0-$((last > 0 ? last - 1 : 0))

for ((round = 1; round <= rounds; round++)); do
    truth=$work/truth-$round.jsonl
    # Its standard input is a pipe of ours: it stops, and writes its truth, when that closes.
    coproc FAKE { taskset -c "$rest" "$target/examples/fake_engine" \
        --ttft-ms 200 --gap-ms "$gap_ms" --truth "$truth"; }
    fake_pid=$FAKE_PID fake_in=${FAKE[1]}
    read -r url <&"${FAKE[0]}"
    common=(--engine openai --model fake -c "$streams" -n "$streams" --tokens "$tokens")
    taskset -c "$last" "$target/floor" --url "$url" "${common[@]}" >"$work/floor.json"
    taskset -c "$last" "$target/chimera" probe "$url" "${common[@]}" \
        --out "$work/probe.jsonl" --json >"$work/summary.json"
    exec {fake_in}>&-
    wait "$fake_pid"

    python3 - "$round" "$work/floor.json" "$work/summary.json" "$work/probe.jsonl" "$truth" <<'PY'
import json, sys

round_, floor, summary, lines, truth = sys.argv[1:]
floor, summary = json.load(open(floor)), json.load(open(summary))
true = {t["request_id"]: t for t in map(json.loads, open(truth))}
ttft, stamps, frames = [], [], 0
for line in map(json.loads, open(lines)):
    assert line["error"] is None, line
    written = true[line["x_request_id"]]["tokens"]
    assert len(written) == len(line["token_us"]), "a token was lost"
    frames += len(written)
    ttft.append((line["start_mono_ns"] + line["ttft_ns"] - written[0]) / 1e6)
    stamps += [(line["start_mono_ns"] + us * 1e3 - w) / 1e6 for us, w in zip(line["token_us"], written)]
mean = lambda values: sum(values) / len(values)
stamps.sort()
floor_us = floor["cpu_ns"] / floor["frames"] / 1e3
probe_us = summary["client_cpu_s"] * 1e6 / frames
wall = summary["wall_s"]
print(
    f"round {round_}: floor {floor_us:.2f} us CPU/frame ({floor['cpu_ns'] / floor['wall_ns']:.0%} of its core), "
    f"probe {probe_us:.2f} ({summary['client_cpu_s'] / wall:.0%}), ratio {probe_us / floor_us:.2f}; "
    f"TTFT error mean {mean(ttft):.3f} max {max(ttft):.3f} ms; "
    f"token stamps mean {mean(stamps):.3f} p99 {stamps[int(len(stamps) * 0.99)]:.3f} ms"
)
PY
done
