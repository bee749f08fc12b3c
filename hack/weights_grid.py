"""Builds each checkpoint's whole model with the engine's own classes and writes the bytes that one GPU holds.

Why: the planner's weights (`planner/weights.py`) are held to what vLLM itself makes of a config: what tensor
parallelism shares out, what it replicates, what a quantised layer's tensors take, which parts a server without
images or sound leaves out, and whether an output layer that a checkpoint ships is kept beside the embedding.

How: as hack/lora_grid.py (torch's `meta` device, no GPU and no memory):

    PYTHONPATH=0.32.0 bin/python .../hack/weights_grid.py --output weights.csv

Shapes and what a checkpoint quantised come from this project's catalog; towers are those of the engine's
transformers (which wants torchvision installed). A quantised layer has what its method's `create_weights` registers:
what kernels make of it later is not built. On a CPU the engine finds no kernel for some schemes and refuses; there
its search is answered by `KERNELS`, which decides nothing about the tensors. A build that is refused all the same is
a row with the engine's words.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from lora_grid import CATALOG, Builder, Theirs, text_config
from quantisation_configs import is_mixture, quantisation_config

#: Beginnings of what a class of module is called in the engine; the first that fits counts.
CLASSES = (
    ("audioTower", ("audio_tower.", "embed_audio.")),
    ("visionTower", ("vision_tower.", "embed_vision.")),
    ("positions", (".cos_sin_cache",)),
    ("attention", (".qkv_proj.", ".q_proj.", ".o_proj.")),
    ("experts", (".experts.",)),
    ("mlp", (".mlp.",)),
    ("perLayerEmbedding", ("embed_tokens_per_layer.",)),
    ("perLayerProjection", ("per_layer_model_projection.",)),
    ("perLayerLinears", ("per_layer_input_gate.", "per_layer_projection.")),
    ("embedding", ("embed_tokens.",)),
    ("outputLayer", ("lm_head.",)),
)
#: 12B has no towers: what leads images and sound into its text model is one linear and small parts.
UNIFIED = (
    ("patchEmbedder", ("vision_embedder.patch_dense.",)),
    ("embedders", ("vision_embedder.", "embed_vision.", "embed_audio.")),
)
COLUMNS = (
    *("engine_version", "checkpoint", "tensor_parallel", "modalities"),
    *(*(name for name, _ in (*UNIFIED, *CLASSES)), "other", "refused"),
)
#: What a server answers to, and the limits that say so to the engine.
SERVED: dict[str, dict[str, int]] = {
    "all": {},
    "text image": {"audio": 0},
    "text audio": {"image": 0, "video": 0},
    "text": {"image": 0, "video": 0, "audio": 0},
}
GPUS = (1, 2, 4, 8)
#: transformers' models/gemma4/configuration_gemma4.py has the small tower as its default; the large one has these.
LARGE_TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "standardize": True,
}


def model_config(name: str, shape: dict[str, Any], *, tied: bool) -> dict[str, Any]:
    """config.json of the whole model."""
    text = {**text_config(shape), "tie_word_embeddings": tied}
    del text["architectures"]
    if name == "12B":
        return {
            "architectures": ["Gemma4UnifiedForConditionalGeneration"],
            "model_type": "gemma4_unified",
            "text_config": {**text, "model_type": "gemma4_unified_text"},
            "vision_config": {"model_type": "gemma4_unified_vision"},
            "audio_config": {"model_type": "gemma4_unified_audio"},
            "tie_word_embeddings": tied,
        }
    small = "audio" in shape["modalities"]
    vision = {"use_clipped_linears": True} if small else LARGE_TOWER
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "text_config": text,
        "vision_config": {"model_type": "gemma4_vision", **vision},
        "audio_config": {"model_type": "gemma4_audio"} if small else None,
        "tie_word_embeddings": tied,
    }


QUANTISATION = "vllm.model_executor.layers.quantization"
#: Where methods ask for a kernel, and by which name.
KERNELS = (
    (f"{QUANTISATION}.compressed_tensors.schemes.compressed_tensors_w4a4_nvfp4", "init_nvfp4_linear_kernel"),
    (f"{QUANTISATION}.compressed_tensors.schemes.compressed_tensors_w8a8_fp8", "init_fp8_linear_kernel"),
    (f"{QUANTISATION}.modelopt", "init_nvfp4_linear_kernel"),
)
EXPERTS = "vllm.model_executor.layers.fused_moe.oracle"
BACKENDS = (
    (f"{QUANTISATION}.modelopt", "select_nvfp4_moe_backend", (f"{EXPERTS}.nvfp4", "NvFp4MoeBackend")),
    (
        f"{QUANTISATION}.compressed_tensors.compressed_tensors_moe.compressed_tensors_moe_w4a4_nvfp4",
        "select_nvfp4_moe_backend",
        (f"{EXPERTS}.nvfp4", "NvFp4MoeBackend"),
    ),
    (
        f"{QUANTISATION}.compressed_tensors.compressed_tensors_moe.compressed_tensors_moe_wna16",
        "select_wna16_moe_backend",
        (f"{EXPERTS}.int_wna16", "WNA16MoEBackend"),
    ),
)


class NoKernel:
    """Stands where a card's kernel would: nothing is computed here."""

    def __init__(self, *_: object, **__: object) -> None:
        """Whatever is asked for."""

    def input_quant_key(self) -> None:
        """Activations are not of interest."""


def answer_for_kernels() -> None:
    """Puts `NoKernel` and Marlin where methods look for a kernel of this machine's."""
    for module, asked in KERNELS:
        setattr(importlib.import_module(module), asked, NoKernel)
    for module, asked, (oracle, backends) in BACKENDS:
        chosen = (getattr(importlib.import_module(oracle), backends).MARLIN, None)
        setattr(importlib.import_module(module), asked, lambda *_, chosen=chosen, **__: chosen)


class Models:
    """The installed engine's models."""

    def __init__(self) -> None:
        self._layers = Builder()
        answer_for_kernels()
        self.version = self._layers.version
        self._quantisation = importlib.import_module(QUANTISATION)
        self._dtypes = importlib.import_module("vllm.utils.torch_utils")
        self._tying = importlib.import_module("vllm.model_executor.model_loader.weight_tying")

    def built(
        self, config: dict[str, Any], quantised: dict[str, Any] | None, *, gpus: int, limits: dict[str, int]
    ) -> Theirs:
        """The model as one of so many GPUs has it."""
        module, _, name = MODELS[config["model_type"]].rpartition(".")
        model = getattr(importlib.import_module(module), name)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "config.json").write_text(json.dumps(config))
            whole = self._layers.engine_config(folder, items=limits)
            if quantised is not None:
                method = self._quantisation.get_quantization_config(quantised["quant_method"])
                whole.quant_config = method.from_config(quantised)
            dtype = self._dtypes.set_default_torch_dtype(whole.model_config.dtype)  # as its loader does
            with self._layers.ranks(gpus, whole), dtype, self._layers.torch.device("meta"):
                return model(vllm_config=whole)

    def retied(self, model: Theirs) -> bool:
        """Whether the engine would find that an output layer of its own equals the embedding."""
        return self._tying._get_untied_lm_head(model) is not None  # noqa: SLF001 (the question has no other door)


MODELS = {
    "gemma4": "vllm.model_executor.models.gemma4_mm.Gemma4ForConditionalGeneration",
    "gemma4_unified": "vllm.model_executor.models.gemma4_unified.Gemma4UnifiedForConditionalGeneration",
}


def held_bytes(model: Theirs) -> Counter[str]:
    """Bytes by class; a tied tensor and a table that layers have in common count once."""
    found: Counter[str] = Counter()
    classes = (*(UNIFIED if model.vision_tower is None else ()), *CLASSES)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        kind = next((kind for kind, parts in classes if _is_of(name, parts)), "other")
        found[kind] += tensor.numel() * tensor.element_size()
    return found


def _is_of(name: str, parts: tuple[str, ...]) -> bool:
    return any(part in f".{name}" for part in parts)


def rows(models: Models, checkpoints: dict[str, Any], shapes: dict[str, Any]) -> Iterator[dict[str, object]]:
    """Each checkpoint on 1 to 8 GPUs, serving all, no sound, sound alone where it is taken, and text alone."""
    for name, checkpoint in checkpoints.items():
        shape = shapes[checkpoint["variant"]]
        for gpus in checkpoint.get("tensorParallel", GPUS):
            for served, limits in SERVED.items():
                if served == "text audio" and "audio" not in shape["modalities"]:
                    continue
                known = {item: limit for item, limit in limits.items() if item in shape["modalities"]}
                head = {
                    "engine_version": models.version,
                    "checkpoint": name,
                    "tensor_parallel": gpus,
                    "modalities": served,
                }
                yield {**head, **row(models, checkpoint, shape, gpus=gpus, limits=known)}


def row(
    models: Models, checkpoint: dict[str, Any], shape: dict[str, Any], *, gpus: int, limits: dict[str, int]
) -> dict[str, object]:
    """One build; an output layer of the checkpoint's own is tied again if the engine sees what it is a copy of."""
    tied = not checkpoint.get("shipsOutputLayer", False)
    config = model_config(checkpoint["variant"], shape, tied=tied)
    try:
        model = models.built(config, quantisation_config(checkpoint), gpus=gpus, limits=limits)
    except (NotImplementedError, RuntimeError, ValueError, AssertionError) as refusal:
        return {"refused": f"{type(refusal).__name__}: {refusal}".splitlines()[0][:160]}
    found = held_bytes(model)
    if not tied and models.retied(model):
        found["outputLayer"] = 0
    return dict(found)


def is_one(checkpoint: dict[str, Any]) -> bool:
    """Whether it is built: base models are those of their variant again, a mixture of schemes has no known config."""
    return checkpoint.get("tuning") != "Base" and not is_mixture(checkpoint)


def main() -> None:
    """Writes the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", default="", help="checkpoints whose name has this in it")
    args = parser.parse_args()
    shapes = yaml.safe_load(CATALOG.read_text(encoding="utf-8"))
    checkpoints = yaml.safe_load(CATALOG.with_name("checkpoints.yaml").read_text(encoding="utf-8"))
    wanted = {name: each for name, each in checkpoints.items() if args.only in name and is_one(each)}
    models = Models()
    with args.output.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval=0, lineterminator="\n")
        writer.writeheader()
        for each in rows(models, wanted, shapes):
            writer.writerow(each)
            file.flush()


if __name__ == "__main__":
    main()
