"""Builds each size's layers with the engine's own classes, wraps them for adapters, and writes what the buffers take.

Why: the planner's sum of adapter buffers (`planner/vllm/adapters.py`) is held to what vLLM itself allocates.

How (no GPU and no memory is needed: everything is built on torch's `meta` device): an environment as for
hack/kv_grid.py, then

    PYTHONPATH=0.32.0 bin/python .../hack/lora_grid.py --output lora-buffers.csv

Shapes come from this project's catalog (`linears` in variants.yaml tells the widths). Experts are left out: their
wrapper asks for a GPU kernel, so their tensors are those of `FusedMoEWithLoRA._create_lora_a_weights` and
`_create_lora_b_weights`, called on a stand-in that has the attributes they read.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

CATALOG = Path(__file__).parents[1] / "operator/gemma_operator/catalog/variants.yaml"
#: A value of the engine's or of torch's, neither of which is installed where this is checked.
Theirs = Any
COLUMNS = ("engine_version", "model", "tensor_parallel", "max_loras", "max_lora_rank", "bytes")
GRID = tuple((gpus, loras, rank) for gpus in (1, 2, 4, 8) for loras, rank in ((1, 16), (3, 64)))


def text_config(shape: dict[str, Any]) -> dict[str, Any]:
    """config.json of the text stack, as transformers' Gemma4TextConfig reads it."""
    widths = shape["linears"]
    layers = list(_pattern(shape))
    experts = widths.get("experts")
    shared = sum(widths.get("queriesOnly", {}).values())
    return {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        "vocab_size": 262144,
        "hidden_size": widths["hidden"],
        "intermediate_size": widths["feedForward"][0]["width"],
        "use_double_wide_mlp": len(widths["feedForward"]) > 1,
        "num_hidden_layers": len(layers),
        "layer_types": layers,
        "num_attention_heads": shape["queryHeads"],
        "num_key_value_heads": shape["sliding"]["kvHeads"],
        "num_global_key_value_heads": shape["full"]["kvHeads"],
        "head_dim": shape["sliding"]["headDim"],
        "global_head_dim": shape["full"]["headDim"],
        "sliding_window": shape["sliding"]["window"],
        "max_position_embeddings": shape["maxContextTokens"],
        "attention_k_eq_v": shape.get("keyAsValueParameters", 0) > 0,
        "num_kv_shared_layers": shared,
        "hidden_size_per_layer_input": widths.get("perLayerInput", 0),
        "vocab_size_per_layer_input": 262144,
        "enable_moe_block": experts is not None,
        "num_experts": experts["count"] if experts else None,
        "moe_intermediate_size": experts["width"] if experts else None,
        "top_k_experts": 8 if experts else None,
        "tie_word_embeddings": True,
    }


def _pattern(shape: dict[str, Any]) -> Iterator[str]:
    """Sliding layers and one full layer behind each run of them; the last is full."""
    only = shape["linears"].get("queriesOnly", {})
    full = shape["full"]["layers"] + only.get("full", 0)
    sliding = shape["sliding"]["layers"] + only.get("sliding", 0)
    for _ in range(full):
        yield from ["sliding_attention"] * (sliding // full)
        yield "full_attention"


class Builder:
    """The installed engine's layers."""

    def __init__(self) -> None:
        self.torch = importlib.import_module("torch")
        self.version = importlib.import_module("vllm").__version__.split("+")[0]
        parallel = importlib.import_module("vllm.distributed.parallel_state")
        self._config = importlib.import_module("vllm.config")
        self._arguments = importlib.import_module("vllm.engine.arg_utils").EngineArgs
        self._lora = importlib.import_module("vllm.lora.utils")
        self._experts = importlib.import_module("vllm.lora.layers.fused_moe").FusedMoEWithLoRA
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517"}
        with self._config.set_current_vllm_config(self._config.VllmConfig()):
            parallel.init_distributed_environment(1, 0, local_rank=0, backend="gloo")
            parallel.initialize_model_parallel(1)
        self._group = parallel.get_tp_group()

    def buffer_bytes(self, shape: dict[str, Any], *, gpus: int, loras: int, rank: int) -> int:
        """What all wrappers of one rank hold."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(text_config(shape)))
            whole = self.engine_config(folder)
        lora = self._config.LoRAConfig(max_loras=loras, max_lora_rank=rank, lora_dtype=self.torch.bfloat16)
        with self.ranks(gpus, whole), self.torch.device("meta"):
            gemma = importlib.import_module("vllm.model_executor.models.gemma4").Gemma4ForCausalLM
            model = gemma(vllm_config=whole)
            return self._of_linears(model, lora) + self._of_experts(shape, lora, gpus)

    def engine_config(self, folder: str, *, items: dict[str, int] | None = None) -> Theirs:
        """What the engine makes of a folder with a config.json; items a prompt by modality, where it has others."""
        return self._arguments(
            model=folder,
            skip_tokenizer_init=True,
            max_model_len=8192,
            enforce_eager=True,
            dtype="bfloat16",
            limit_mm_per_prompt=items or {},
        ).create_engine_config()

    @contextmanager
    def ranks(self, gpus: int, config: Theirs) -> Iterator[None]:
        """As one of so many GPUs: a rank's own slice is asked for, not an exchange with others."""
        self._group.world_size = gpus
        try:
            with self._config.set_current_vllm_config(config):
                yield
        finally:
            self._group.world_size = 1

    def _of_linears(self, model: Theirs, lora: Theirs) -> int:
        supported = self._lora.get_supported_lora_modules(model)
        total = 0
        for name, module in list(model.named_modules()):
            experts = type(module).__name__ == "MoERunner"
            if experts or not self._lora.is_supported_lora_module(name, module, supported):
                continue
            packed = model.packed_modules_mapping.get(name.rpartition(".")[2], [])
            wrapped = self._lora.from_layer(module, lora.max_loras, lora, packed, model.config)
            if wrapped is module:
                raise SystemExit(f"{name} ({type(module).__name__}) was not wrapped")
            total += self._held(wrapped.lora_a_stacked) + self._held(wrapped.lora_b_stacked)
        return total

    def _of_experts(self, shape: dict[str, Any], lora: Theirs, gpus: int) -> int:
        experts = shape["linears"].get("experts")
        if experts is None:
            return 0
        one = SimpleNamespace(
            device="meta",
            fully_sharded=False,
            tp_size=gpus,
            hidden_size=shape["linears"]["hidden"],
            intermediate_size_per_partition=experts["width"] // gpus,
            local_num_experts=experts["count"],
            _w13_slices=2,
            _w13_a_num_experts=experts["count"],
            _w2_b_num_experts=experts["count"],
        )
        for allocate in ("_create_lora_a_weights", "_create_lora_b_weights"):
            getattr(self._experts, allocate)(one, lora.max_loras, lora)
        names = ("w13_lora_a_stacked", "w13_lora_b_stacked", "w2_lora_a_stacked", "w2_lora_b_stacked")
        return int(experts["layers"]) * sum(self._held(getattr(one, name)) for name in names)

    @staticmethod
    def _held(tensors: Theirs) -> int:
        tensors = tensors if isinstance(tensors, list | tuple) else [tensors]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    output = parser.parse_args().output
    shapes = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    builder = Builder()
    with output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for model, shape in shapes.items():
            for gpus, loras, rank in GRID:
                size = builder.buffer_bytes(shape, gpus=gpus, loras=loras, rank=rank)
                writer.writerow((builder.version, model, gpus, loras, rank, size))


if __name__ == "__main__":
    main()
