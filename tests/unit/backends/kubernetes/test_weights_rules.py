"""What is decided inside the pod while weights are brought."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.backends.kubernetes.weights_script import rules
from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.own_weights import told_shape

CATALOG = packaged()
HUB = "https://huggingface.co"
TASK = {"repo": "acme/tuned", "revision": "0" * 40, "root": "/cache/weights"}


def a_config(variant, **text):
    """config.json as it is published: transformers 5.19 Gemma4TextConfig, figures of the catalog."""
    shape = CATALOG.variants[variant]
    owning = ["sliding_attention"] * shape.sliding.layers + ["full_attention"] * shape.full.layers
    return {
        "model_type": "gemma4",
        "text_config": {
            "num_attention_heads": shape.query_heads,
            "layer_types": owning + ["sliding_attention"] * 3,
            "num_kv_shared_layers": 3,
            "num_key_value_heads": shape.sliding.kv_heads,
            "attention_k_eq_v": shape.full.kv_heads != shape.sliding.kv_heads,
            "num_global_key_value_heads": shape.full.kv_heads,
            "head_dim": shape.sliding.head_dim,
            "global_head_dim": shape.full.head_dim,
            "sliding_window": shape.sliding.window,
            **text,
        },
    }


def planned(variant, **changes):
    return {
        "variant": variant,
        "precision": "bf16",
        "shape": dict(told_shape(CATALOG.variants[variant])),
        **changes,
    }


@pytest.mark.parametrize("planned_for", CATALOG.variants)
@pytest.mark.parametrize("lying_there", CATALOG.variants)
def test_a_config_is_that_of_its_own_variant_and_of_no_other(planned_for, lying_there):
    why = rules.mismatch(a_config(lying_there), planned(planned_for))
    assert bool(why) is (planned_for != lying_there), why


def test_the_words_name_both_figures():
    why = rules.mismatch(a_config("E4B"), planned("31B"))
    assert why == "it has 8 attention heads and 31B has 32"


def test_what_a_config_leaves_out_is_not_held_against_it():
    assert rules.mismatch({"model_type": "gemma4_text", "num_attention_heads": 8}, planned("E4B")) == ""


@pytest.mark.parametrize("kind", ["llama", "gemma3", None])
def test_another_model_is_named(kind):
    assert rules.mismatch({"model_type": kind}, planned("E4B")) == f"its model_type is {kind}"


@pytest.mark.parametrize(
    ("config", "names", "quantised"),
    [
        ({}, (), False),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, (), True),
        ({"compression_config": {"format": "float-quantized"}}, (), True),
        ({}, ("hf_quant_config.json",), True),
    ],
)
def test_the_precision_of_own_weights_is_looked_at(config, names, quantised):
    whole = {**a_config("E4B"), **config}
    assert rules.mismatch(whole, planned("E4B", quantised=quantised), names) == ""
    assert "quantised" in rules.mismatch(whole, planned("E4B", quantised=not quantised), names)
    assert rules.mismatch(whole, planned("E4B"), names) == ""


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("chat_template.jinja", True),
        ("tokenizer.model", True),
        ("consolidated.safetensors", False),
        ("original/model.safetensors", False),
        ("pytorch_model.bin", False),
        ("README.md", False),
        ("model-Q4_K_M.gguf", False),
    ],
)
def test_only_what_the_engine_reads_is_brought(name, read):
    assert rules.wanted(name) is read


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["model.safetensors", "tokenizer.json"], "config.json"),
        (["config.json", "tokenizer.json", "model.bin"], "weights in safetensors"),
        (["config.json", "model.safetensors"], "a tokenizer"),
        (["config.json", "model.safetensors", "tokenizer.json"], ""),
    ],
)
def test_what_is_lacking_is_named(names, missing):
    assert rules.lacking(names) == missing


def judged(*kinds, status=None, **more):
    return rules.judge(set(kinds), status, task=TASK, hub=HUB, **more)


@pytest.mark.parametrize(
    ("refused", "reason", "passing", "final"),
    [
        (judged("GatedRepoError", "RepositoryNotFoundError", status=401), "WeightsGated", False, False),
        (judged("HfHubHTTPError", status=403), "WeightsGated", False, False),
        (judged("RevisionNotFoundError", status=404), "WeightsMissing", False, True),
        (judged("RepositoryNotFoundError", status=401), "WeightsMissing", False, True),
        (judged("RepositoryNotFoundError", status=404, has_token=True), "WeightsMissing", False, True),
        (judged("HFValidationError"), "WeightsMissing", False, True),
        (judged("RemoteEntryNotFoundError", status=404), "WeightsMissing", False, True),
        (judged("HfHubHTTPError", status=401), "WeightsMissing", False, True),
        (judged("HfHubHTTPError", status=401, has_token=True), "CredentialInvalid", False, False),
        (judged("RepositoryNotFoundError", status=401, has_token=True), "CredentialInvalid", False, False),
        (judged("HfHubHTTPError", status=429), "HubRateLimited", True, False),
        (judged("HfHubHTTPError", status=503), "HubUnreachable", True, False),
        (judged("LocalEntryNotFoundError", "EntryNotFoundError"), "HubUnreachable", True, False),
        (judged("ConnectTimeout"), "HubUnreachable", True, False),
    ],
)
def test_what_an_error_of_the_hub_means(refused, reason, passing, final):
    assert (refused.reason, refused.passing, refused.final) == (reason, passing, final)
    assert HUB in refused.message
    assert len(refused.message) <= 400


class Answer:
    def __init__(self, status_code, **headers):
        self.status_code, self.headers = status_code, {k.replace("_", "-"): v for k, v in headers.items()}


class HfHubHTTPError(OSError):
    def __init__(self, words, response):
        super().__init__(words)
        self.response = response


class LocalEntryNotFoundError(FileNotFoundError):
    pass


def chained(outer, inner):
    try:
        raise outer from inner
    except Exception as error:
        return error


def test_what_the_server_answered_tells_more_than_what_the_client_made_of_it():
    answered = HfHubHTTPError("429 Client Error", Answer(429, Retry_After="7"))
    refused = rules.explained(chained(LocalEntryNotFoundError("no snapshot on disk"), answered), TASK)
    assert (refused.reason, refused.wait_seconds) == ("HubRateLimited", 7.0)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(28, "DiskFull"), (122, "DiskFull"), (13, "ClaimUnsuitable"), (30, "ClaimUnsuitable")],
)
def test_the_volume_s_trouble_is_told_from_the_hub_s(number, reason):
    refused = rules.explained(chained(RuntimeError("download failed"), OSError(number, "x")), TASK)
    assert (refused.reason, refused.passing) == (reason, False)
    assert "/cache/weights" in refused.message


@given(st.text(min_size=1))
def test_no_word_of_the_client_reaches_the_message(words):
    secret = f"hf_{words}secret"
    error = chained(
        RuntimeError(secret), HfHubHTTPError(f"https://x/y?X-Amz-Signature={secret}", Answer(500))
    )
    assert secret not in rules.explained(error, TASK).message


def test_the_hub_is_shown_without_user_and_query(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://user:pass@mirror.example:8443/hub/?key=abc")
    assert rules.hub_address() == "https://mirror.example:8443/hub"


def test_a_newline_at_the_end_of_a_token_is_taken_off():
    assert rules.clean("hf_abc\n") == "hf_abc"
    assert rules.clean("") == ""


@pytest.mark.parametrize("token", ["hf_a\nhf_b", "hf a", "hf_é", "hf_\x00"])
def test_a_token_that_no_header_may_hold_is_never_shown(token):
    with pytest.raises(rules.Refused) as refused:
        rules.clean(token)
    assert refused.value.reason == "CredentialMalformed"
    assert token not in refused.value.message
