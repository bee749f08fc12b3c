"""Writes a Gemma 4 of two million parameters: the architecture and the tokens of the real one, and nothing learnt.

Its weights are drawn from one seed and then bent in one place, so that what a test reads is fit to be read. Two
dimensions of the stream pass through all layers untouched, and each token's place in them says what follows it:
printable characters mostly, white space seldom, halves of UTF-8 characters hardly ever. A marker such as `<|tool_call>`
is likelier than the `<` that would spell it out: a grammar that allows both gets the marker, as from the real model.

Run in a process of its own, by the environment that has transformers: `python tiny_model.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SEED = 4
NAME = "tiny-gemma-4"
TEMPLATE = Path(__file__).with_name("chat_template.jinja")

#: Gemma 4's own markers: vLLM 0.32.0 vllm/parser/gemma4.py, transformers 5.19.0 models/gemma4/processing_gemma4.py.
PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
TURN, TURN_END = "<|turn>", "<turn|>"
MARKERS = (
    *(
        TURN,
        TURN_END,
        "<|think|>",
        "<|channel>",
        "<channel|>",
        "<|tool>",
        "<tool|>",
        "<|tool_call>",
        "<tool_call|>",
    ),
    *("<|tool_response>", "<tool_response|>", '<|"|>'),
)
SPECIAL = (PAD, EOS, BOS, UNKNOWN, *MARKERS)

LAYER_TYPES = ("sliding_attention", "sliding_attention", "full_attention") * 4
SHAPE: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": len(LAYER_TYPES),
    "layer_types": list(LAYER_TYPES),
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "global_head_dim": 128,
    "sliding_window": 64,
    "num_kv_shared_layers": 3,
    "hidden_size_per_layer_input": 32,
    "max_position_embeddings": 32768,
    "final_logit_softcapping": 30.0,
}

_WHITE_SPACE = ("Ġ", "Ċ")  # as byte-level BPE writes a blank and a new line
#: Places of tokens in the first two dimensions. What follows is likely by the product of the first ones, less that of
#: the second ones (the last norm turns the sign): so after white space, where a prompt ends, comes no white space.
_PRINTABLE, _SPACE, _MARKER, _UNLIKELY = (1.0, 0.5), (1.0, 1.0), (0.5, 0.5), (0.05, 0.5)
#: What each layer may add to the stream, so that the first two dimensions stay the largest.
_VOICE = 0.3


def write(folder: Path) -> None:
    """Config, weights, tokenizer and template, as a checkpoint on the hub has them."""
    vocabulary = _vocabulary()
    _write_tokenizer(folder, vocabulary)
    _write_weights(folder, vocabulary)


def _vocabulary() -> dict[str, int]:
    """The markers, and one token for each byte: nothing is merged, so a character is a token."""
    from tokenizers.pre_tokenizers import ByteLevel  # noqa: PLC0415 - of the environment, not of this project

    return {token: number for number, token in enumerate((*SPECIAL, *sorted(ByteLevel.alphabet())))}


def _write_tokenizer(folder: Path, vocabulary: dict[str, int]) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNKNOWN,
        additional_special_tokens=list(MARKERS),
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
        clean_up_tokenization_spaces=False,
    ).save_pretrained(folder)


def _write_weights(folder: Path, vocabulary: dict[str, int]) -> None:
    import torch  # noqa: PLC0415
    from transformers import Gemma4ForCausalLM, Gemma4TextConfig, GenerationConfig  # noqa: PLC0415

    size = len(vocabulary)
    ends = [vocabulary[EOS], vocabulary[TURN_END]]
    config = Gemma4TextConfig(
        **SHAPE,
        vocab_size=size,
        vocab_size_per_layer_input=size,
        pad_token_id=vocabulary[PAD],
        bos_token_id=vocabulary[BOS],
        eos_token_id=ends,
        dtype="bfloat16",
    )
    torch.manual_seed(SEED)
    model = Gemma4ForCausalLM(config).to(torch.bfloat16)
    _bend(model, vocabulary)
    model.generation_config = GenerationConfig(
        bos_token_id=vocabulary[BOS], pad_token_id=vocabulary[PAD], eos_token_id=ends
    )
    model.save_pretrained(folder)
    # transformers writes a head size for each layer; the hub's files, and vLLM, also have the one of the full layers
    path = folder / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"global_head_dim": SHAPE["global_head_dim"]}, indent=1)
    )


def _bend(model: Any, vocabulary: dict[str, int]) -> None:
    """Keep every layer's hands off the first two dimensions, and put each token where it belongs in them."""
    import torch  # noqa: PLC0415

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".layers." in name and ".post_" in name and name.endswith("norm.weight"):
                weight.fill_(_VOICE)
                weight[:2] = 0
        model.model.norm.weight[1] = -1
        embedding = model.get_input_embeddings().weight
        embedding.normal_(std=0.05)
        for token, number in vocabulary.items():
            embedding[number, :2] = torch.tensor(_place(token), dtype=embedding.dtype)


def _place(token: str) -> tuple[float, float]:
    if token in MARKERS:
        return _MARKER
    if token in _WHITE_SPACE:
        return _SPACE
    return _PRINTABLE if len(token) == 1 and token.isascii() and token != "<" else _UNLIKELY


if __name__ == "__main__":
    write(Path(sys.argv[1]))
