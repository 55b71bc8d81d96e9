#!/usr/bin/env python3
"""Writes the sample CSV files of this folder: synthetic LLM benchmark results.

usage: python3 generate.py [FOLDER]      (default: the folder of this script)

The same files come out on every machine: one seeded generator per file, of which only
`random()` is used (its sequence is a documented promise of Python), and figures are
rounded before they are written. No engine was measured: see README.md.
"""

import csv
import math
import random
import sys
from pathlib import Path

SEED = 110

# Layers asked onto the GPU: decode tokens/s and VRAM in MiB of a small model at 4 bits.
PLACEMENTS = {60: (92.0, 3010), 80: (101.0, 3240), 999: (102.0, 3270)}
QUANTS = {"q4_0": (76.0, 4780), "q5_K_M": (65.0, 5630), "q8_0": (46.5, 8390)}


class Noise:
    """Seeded noise from `random()` alone."""

    def __init__(self, name: str) -> None:
        self._random = random.Random(f"{SEED}:{name}").random

    def gauss(self) -> float:
        """A standard normal value (Box-Muller)."""
        radius = math.sqrt(-2.0 * math.log(1.0 - self._random()))
        return radius * math.cos(2.0 * math.pi * self._random())

    def around(self, value: float, relative: float) -> float:
        """`value` with a relative spread, cut at three deviations."""
        return value * (1.0 + relative * max(-3.0, min(3.0, self.gauss())))

    def whole(self, low: int, high: int) -> int:
        """A whole number in `low..=high`."""
        return low + int(self._random() * (high - low + 1))


def parameter_sweep(noise: Noise) -> list[dict]:
    """Placement x context x temperature, four runs each, in the manner of TR108."""
    rows = []
    for num_gpu, (speed, vram) in PLACEMENTS.items():
        for num_ctx in (512, 1024, 2048):
            for temperature in (0.4, 0.6, 0.8):
                for run in range(1, 5):
                    tokens = noise.whole(190, 420)
                    rows.append({
                        "model": "gemma3-4b", "quant": "q4_K_M", "num_gpu": num_gpu,
                        "num_ctx": num_ctx, "temperature": temperature, "run": run,
                        "ttft_ms": round(noise.around(96 + num_ctx / 32, 0.09), 1),
                        "tokens_per_s": round(noise.around(speed - num_ctx / 1024, 0.02), 2),
                        "eval_tokens": tokens, "vram_mb": vram + num_ctx // 16,
                    })
    return rows


def quantization(noise: Noise) -> list[dict]:
    """Three quantizations of one model over five prompts."""
    rows = []
    for quant, (speed, vram) in QUANTS.items():
        for prompt in ("summary", "code", "table", "math", "story"):
            for run in range(1, 5):
                rows.append({
                    "model": "llama3.1-8b", "quant": quant, "prompt": prompt, "num_ctx": 2048,
                    "temperature": 0.8, "run": run,
                    "ttft_ms": round(noise.around(7200 / speed, 0.12), 1),
                    "tokens_per_s": round(noise.around(speed, 0.03), 2),
                    "eval_tokens": noise.whole(120, 512), "vram_mb": vram,
                })
    return rows


def agent_workflow(noise: Noise) -> list[dict]:
    """One agent's two steps under three settings, in the manner of TR109."""
    rows = []
    for num_gpu, num_ctx, temperature in ((60, 512, 0.6), (80, 512, 0.8), (80, 1024, 0.8)):
        for run in range(1, 9):
            for step in ("analysis", "report"):
                tokens = noise.whole(520, 690) if step == "analysis" else noise.whole(980, 1260)
                rows.append({
                    "model": "gemma3-4b", "quant": "q4_K_M", "step": step, "num_gpu": num_gpu,
                    "num_ctx": num_ctx, "temperature": temperature, "run": run,
                    "ttft_ms": round(noise.around(880 if step == "analysis" else 1340, 0.2), 1),
                    "tokens_per_s": round(noise.around(PLACEMENTS[num_gpu][0] - 1.5, 0.025), 2),
                    "eval_tokens": tokens, "vram_mb": PLACEMENTS[num_gpu][1] + num_ctx // 16,
                })
    return rows


def cold_start(noise: Noise) -> list[dict]:
    """Cold and warm first requests of three models; a warm one loads nothing."""
    rows = []
    models = (("gemma3-4b", "q4_K_M", 3270, 101.0), ("llama3.1-8b", "q4_0", 4780, 76.0),
              ("qwen2.5-7b", "q4_K_M", 4690, 79.0))
    for model, quant, vram, speed in models:
        for run in range(1, 9):
            for state in ("cold", "warm"):
                load = noise.around(vram * 0.62, 0.15) if state == "cold" else None
                rows.append({
                    "model": model, "quant": quant, "state": state, "run": run,
                    "load_ms": "" if load is None else round(load, 1),
                    "ttft_ms": round((load or 0.0) + noise.around(130, 0.1), 1),
                    "tokens_per_s": round(noise.around(speed, 0.025), 2),
                    "eval_tokens": noise.whole(120, 300), "vram_mb": vram,
                })
    return rows


FILES = {
    "agent_workflow.csv": agent_workflow,
    "cold_start.csv": cold_start,
    "parameter_sweep.csv": parameter_sweep,
    "quantization.csv": quantization,
}


def main() -> int:
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__, file=sys.stderr)
        return 64
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent
    for name, make in FILES.items():
        rows = make(Noise(name))
        with open(folder / name, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(f"{name}: {len(rows)} rows", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
