"""Builds each size's language model with the engine's own classes and writes the parameters that one GPU holds.

Why: the planner's weights (`planner/weights.py`) are held to what vLLM itself makes of a config: what tensor
parallelism shares out, what it replicates, which projections are copied and which are never built.

How: as hack/lora_grid.py (torch's `meta` device, no GPU and no memory):

    PYTHONPATH=0.32.0 bin/python .../hack/weights_grid.py --output parameters.csv

Towers and quantised linears are left out: their classes ask for kernels or for a checkpoint's config.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from lora_grid import CATALOG, Builder, Theirs, text_config

#: Beginnings of what a class of module is called in the engine; the first that fits counts.
CLASSES = (
    ("attention", (".qkv_proj.", ".q_proj.", ".o_proj.")),
    ("experts", (".experts.",)),
    ("mlp", (".mlp.",)),
    ("perLayerEmbedding", ("embed_tokens_per_layer.",)),
    ("embedding", ("embed_tokens.", "lm_head.")),
)
COLUMNS = ("engine_version", "model", "tensor_parallel", *(name for name, _ in CLASSES), "other")


def counted(model: Theirs) -> Counter[str]:
    """Parameters by class; a tied one counts once."""
    found: Counter[str] = Counter()
    for name, parameter in model.named_parameters():  # torch leaves a tied one out the second time
        of_class = (kind for kind, parts in CLASSES if any(part in f".{name}" for part in parts))
        found[next(of_class, "other")] += parameter.numel()
    return found


def built(builder: Builder, shape: dict[str, Any], gpus: int) -> Theirs:
    """The text model as one of so many GPUs has it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(text_config(shape)))
        config = builder.engine_config(folder)
    with builder.ranks(gpus, config), builder.torch.device("meta"):
        gemma = importlib.import_module("vllm.model_executor.models.gemma4").Gemma4ForCausalLM
        return gemma(vllm_config=config)


def main() -> None:
    """Every size that has no experts, whole and on 2, 4 and 8 GPUs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    builder = Builder()
    shapes = yaml.safe_load(CATALOG.read_text())
    with args.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval=0, lineterminator="\n")
        writer.writeheader()
        for name, shape in shapes.items():
            for gpus in () if "experts" in shape["linears"] else (1, 2, 4, 8):
                of_class = counted(built(builder, shape, gpus))
                writer.writerow(
                    {"engine_version": builder.version, "model": name, "tensor_parallel": gpus, **of_class}
                )


if __name__ == "__main__":
    main()
