"""The quantisation config of a checkpoint as its config.json has it, from what the catalog says that it quantised.

Why: hack/weights_grid.py lets the engine build quantised layers, and the engine wants the checkpoint's own words.
Which classes of module are quantised is the catalog's (`bytesPerParameter`); how, is the scheme of its makers'
tool. The files themselves are not read: no hub is asked.

Schemes: llm-compressor's presets W4A16 (groups of 32 here, as google's and cyankiwi's), FP8_DYNAMIC, FP8_BLOCK and
NVFP4 in the format of compressed-tensors; NVIDIA ModelOpt's NVFP4.
"""

from __future__ import annotations

from typing import Any

#: What the modules of a class are called; a class that a checkpoint left alone is ignored by these.
NAMES = {
    "attention": ("self_attn",),
    "mlp": ("mlp.gate_proj", "mlp.up_proj", "mlp.gate_up_proj", "mlp.down_proj"),
    "experts": ("experts",),
    "perLayerProjection": ("per_layer_model_projection",),
    "perLayerLinears": ("per_layer_input_gate", "per_layer_projection"),
}
#: Never quantised by any of them.
ALWAYS = ("lm_head", "embed_tokens", "embed_vision", "embed_audio", "vision", "audio", "router")
MODELOPT_OWNERS = ("nvidia", "LilaRest")


def is_mixture(checkpoint: dict[str, Any]) -> bool:
    """Whether classes are quantised in more than one way, of which the catalog tells the sizes alone."""
    sizes = checkpoint.get("bytesPerParameter", {}).values()
    return len({round(each, 2) for each in sizes}) > 1  # of FP8, scales are reckoned in here and not there


def quantisation_config(checkpoint: dict[str, Any]) -> dict[str, Any] | None:
    """As in config.json; None where nothing is quantised."""
    quantised = checkpoint.get("bytesPerParameter")
    if not quantised:
        return None
    ignored = (*ALWAYS, *(name for kind, names in NAMES.items() if kind not in quantised for name in names))
    if checkpoint["precision"] == "nvfp4" and checkpoint["repo"].split("/")[0] in MODELOPT_OWNERS:
        return {
            "quant_method": "modelopt_fp4",  # what the engine makes of "modelopt" with this algorithm
            "quant_algo": "NVFP4",
            "group_size": 16,
            "ignore": [f"*{name}*" for name in ignored],
        }
    weights, activations, form = _scheme(checkpoint)
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": form,
        "ignore": [f"re:.*{name.replace('.', '[.]')}.*" for name in ignored],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": activations,
                "format": form,
            }
        },
    }


def _scheme(checkpoint: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any] | None, str]:
    """Weights, activations and format."""
    four = {"num_bits": 4, "symmetric": True, "dynamic": False}
    eight = {"num_bits": 8, "type": "float", "symmetric": True}
    if checkpoint["precision"] == "w4a16":
        return {**four, "type": "int", "strategy": "group", "group_size": 32}, None, "pack-quantized"
    if checkpoint["precision"] == "nvfp4":
        group = {"type": "float", "strategy": "tensor_group", "group_size": 16}
        return {**four, **group}, {**four, **group, "dynamic": "local"}, "nvfp4-pack-quantized"
    if "block" in checkpoint["repo"]:
        block = {"strategy": "block", "block_structure": [128, 128], "dynamic": False}
        return (
            {**eight, **block},
            {**eight, "strategy": "group", "group_size": 128, "dynamic": True},
            "float-quantized",
        )
    return (
        {**eight, "strategy": "channel", "dynamic": False},
        {**eight, "strategy": "token", "dynamic": True},
        "float-quantized",
    )
