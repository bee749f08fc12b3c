"""How vLLM is started, asked and read."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.api.owned import is_owned_argument, is_owned_variable
from gemma_operator.engines.registry import engine_named
from gemma_operator.engines.vllm import KNOWN_FLAGS, MODALITIES, Vllm
from gemma_operator.engines.vllm_flags import flags_of
from gemma_operator.errors import InvalidSpec
from gemma_operator.planner.values import Adapters, Drafting, KvPrecision, Settings
from plans import a_plan, some_serving, some_settings

HELP = (Path(__file__).parents[2] / "data/vllm-0.32/serve-help.txt").read_text()
VLLM = Vllm()
DRAFTING = Drafting("google/gemma-4-31B-it-assistant", 4)


def arguments(*, settings=None, plan=None, **serving):
    return VLLM.arguments(plan or a_plan(settings=settings), some_serving(**serving))


def value_of(flag, words):
    return words[words.index(flag) + 1]


def emitted_flags():
    texts = arguments(
        plan=a_plan(
            settings=some_settings(
                modality_limits=(("image", 0),),
                enforce_eager=True,
                drafting=DRAFTING,
                adapters=Adapters(2, 64),
            ),
            chat_template="/templates/gemma4.jinja",
        ),
        thinking="Default",
    )
    others = arguments(settings=some_settings(async_scheduling=False))
    return sorted({word for word in texts + others if word.startswith("--")})


def option_line(flag):
    """The line of the help that declares a flag."""
    return next(line for line in HELP.splitlines() if re.match(rf"^  (\S.*, )?{flag}(,| |$)", line))


def test_the_flags_of_0_32_are_those_of_its_help():
    declared = set()
    for line in HELP.splitlines():
        if line.startswith("  -"):
            declared |= set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", re.sub(r"\{.*\}", "", line)))
    assert declared == KNOWN_FLAGS


@pytest.mark.parametrize("flag", emitted_flags())
def test_every_flag_that_is_emitted_is_one_of_the_engines(flag):
    assert option_line(flag)


VERSIONS = (
    *("0.19.1", "0.20.0", "0.20.2", "0.21.0", "0.22.0", "0.22.1", "0.23.0", "0.24.0", "0.25.1", "0.26.0"),
    *("0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_flag_that_is_emitted_is_known_to_every_version(version):
    assert set(emitted_flags()) <= flags_of(version)


@pytest.mark.parametrize(
    ("flag", "version", "there"),
    [
        ("--mamba-backend", "0.19.1", False),
        ("--mamba-backend", "0.20.0", True),
        ("--max-num-seqs", "0.18.0", True),  # older than the oldest: as the oldest
        ("--max-num-seqs", "0.99", True),
        ("--turbo", "0.32", False),
    ],
)
def test_flags_come_and_go_with_versions(flag, version, there):
    assert (flag in flags_of(version)) is there


def test_a_users_flag_is_held_against_the_version_that_runs():
    flag = "--mamba-backend"
    assert VLLM.extra_arguments([flag, "1"], version="0.19.1").unknown == (flag,)
    assert VLLM.extra_arguments([flag, "1"], version="0.32").unknown == ()


# --enforce-eager is the user's own: it comes from extraArgs, through the planner, and back.
@pytest.mark.parametrize("flag", sorted({*emitted_flags()} - {"--enforce-eager"}))
def test_every_flag_that_is_emitted_is_refused_in_extra_args(flag):
    assert is_owned_argument(flag)


def test_every_variable_that_is_set_is_refused_in_env():
    names = [name for name, _ in VLLM.environment(a_plan(), some_serving(offline=True))]
    assert [name for name in names if not is_owned_variable(name)] == []


@pytest.mark.parametrize(
    ("flag", "choice"),
    [("--tool-call-parser", "gemma4"), ("--kv-cache-dtype", "auto"), ("--kv-cache-dtype", "fp8")],
)
def test_a_choice_that_is_made_is_one_that_the_engine_offers(flag, choice):
    assert choice in re.search(r"\{(.*?)\}", option_line(flag)).group(1).split(",")


def test_the_command_is_said_because_an_image_may_have_another_entry_point():
    assert VLLM.command[:2] == ("python3", "-c")
    assert VLLM.command[-4:] == ("/dev/termination-log", str(VLLM.port), "vllm", "serve")


def test_the_model_comes_first_and_at_its_revision():
    words = arguments()
    assert words[0] == "google/gemma-4-31B-it"
    assert value_of("--revision", words) == "68abe48000000000000000000000000000000000"


def test_an_unknown_revision_is_left_out():
    assert "--revision" not in arguments(plan=a_plan(revision=None))


def test_weights_that_lie_in_the_container_have_no_revision_and_ask_no_hub():
    words = arguments(model_path="/weights/31b")
    assert words[0] == "/weights/31b"
    assert "--revision" not in words
    environment = dict(VLLM.environment(a_plan(), some_serving(model_path="/weights/31b")))
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_offline_keeps_the_repository_and_its_revision_and_asks_no_hub():
    assert arguments(offline=True) == arguments()
    environment = dict(VLLM.environment(a_plan(), some_serving(offline=True)))
    assert environment["HF_HUB_OFFLINE"] == "1"


def test_the_hub_is_asked_unless_said_otherwise():
    assert "HF_HUB_OFFLINE" not in dict(VLLM.environment(a_plan(), some_serving()))


def test_clients_ask_for_the_name_that_the_user_gave():
    assert value_of("--served-model-name", arguments(model_name="team/chat")) == "team/chat"


def test_it_listens_where_the_service_points():
    words = arguments()
    assert (value_of("--host", words), value_of("--port", words)) == ("0.0.0.0", str(VLLM.port))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-model-len", "32768"),
        ("--max-num-seqs", "256"),
        ("--max-num-batched-tokens", "8192"),
        ("--tensor-parallel-size", "2"),
        ("--gpu-memory-utilization", "0.92"),
        ("--kv-cache-dtype", "auto"),
        ("--limit-mm-per-prompt", '{"image":4,"video":0,"audio":0}'),
    ],
)
def test_every_setting_of_the_plan_is_said_also_where_it_is_the_default(flag, value):
    assert value_of(flag, arguments()) == value


def test_async_scheduling_is_said_either_way():
    assert "--async-scheduling" in arguments()
    assert "--no-async-scheduling" in arguments(settings=some_settings(async_scheduling=False))


def test_an_fp8_cache_is_asked_for():
    words = arguments(settings=some_settings(kv_cache_precision=KvPrecision.FP8))
    assert value_of("--kv-cache-dtype", words) == "fp8"


def test_a_server_of_text_alone_loads_no_towers():
    words = arguments(settings=some_settings(modality_limits=tuple((name, 0) for name in MODALITIES)))
    assert "--language-model-only" in words
    assert set(json.loads(value_of("--limit-mm-per-prompt", words)).values()) == {0}


def test_a_model_without_other_modalities_is_given_no_limits():
    words = arguments(settings=some_settings(modality_limits=()))
    assert "--language-model-only" in words
    assert "--limit-mm-per-prompt" not in words


def test_a_drafter_is_named_with_the_tokens_that_it_proposes():
    words = arguments(settings=some_settings(drafting=DRAFTING))
    assert json.loads(value_of("--speculative-config", words)) == {
        "model": "google/gemma-4-31B-it-assistant",
        "num_speculative_tokens": 4,
    }
    assert "--speculative-config" not in arguments()


def test_a_chat_template_is_said_only_where_the_catalog_has_one():
    assert "--chat-template" not in arguments()
    template = "/templates/gemma4.jinja"
    assert value_of("--chat-template", arguments(plan=a_plan(chat_template=template))) == template
    assert "--chat-template" not in arguments(plan=a_plan(chat_template=template), tuning="Base")


def test_whatever_a_default_deployment_needs_of_the_server_is_there():
    """Tools by themselves, thoughts apart from answers; the engine's own defaults do schemas and system prompts."""
    words = arguments()
    assert {"--enable-auto-tool-choice", "--tool-call-parser", "--reasoning-parser"} <= set(words)
    assert not {"--structured-outputs-config", "--chat-template-content-format"} & set(words)


def test_tools_are_parsed_when_they_are_enabled():
    words = arguments(tool_calling=True)
    assert "--enable-auto-tool-choice" in words
    assert value_of("--tool-call-parser", words) == "gemma4"
    assert "--tool-call-parser" not in arguments(tool_calling=False)


@pytest.mark.parametrize(("thinking", "enabled"), [("Default", True), ("Disabled", False)])
def test_a_wish_about_thinking_becomes_the_templates_default(thinking, enabled):
    words = arguments(thinking=thinking)
    assert json.loads(value_of("--default-chat-template-kwargs", words)) == {"enable_thinking": enabled}


def test_thinking_on_request_leaves_the_template_alone_and_parses_thoughts():
    words = arguments(thinking="OnRequest")
    assert "--default-chat-template-kwargs" not in words
    assert value_of("--reasoning-parser", words) == "gemma4"


def test_a_base_model_has_neither_tools_nor_thoughts():
    words = arguments(tuning="Base", thinking="Default")
    assert not {"--tool-call-parser", "--reasoning-parser", "--default-chat-template-kwargs"} & set(words)


def test_requests_that_run_are_finished_when_the_pod_goes():
    assert value_of("--shutdown-timeout", arguments(shutdown_seconds=45)) == "45"


def test_probes_and_scrapes_do_not_fill_the_access_log():
    silent = value_of("--disable-access-log-for-endpoints", arguments()).split(",")
    assert {VLLM.health_path, VLLM.metrics_path} <= set(silent)


def test_the_users_own_flags_and_variables_come_last():
    assert arguments(extra_args=("--seed", "7"))[-2:] == ("--seed", "7")
    assert VLLM.environment(a_plan(), some_serving(environment=(("LOG", "1"),)))[-1] == ("LOG", "1")


def test_nothing_is_written_outside_the_writable_mount():
    environment = dict(VLLM.environment(a_plan(), some_serving(cache_path="/scratch")))
    places = (
        "HOME",
        "HF_HOME",
        "VLLM_CACHE_ROOT",
        "VLLM_CONFIG_ROOT",
        "TRITON_CACHE_DIR",
        "TORCHINDUCTOR_CACHE_DIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
    )
    assert all(environment[place].startswith("/scratch") for place in places)


def test_nobody_is_told_that_it_runs():
    environment = dict(VLLM.environment(a_plan(), some_serving()))
    assert (environment["VLLM_NO_USAGE_STATS"], environment["DO_NOT_TRACK"]) == ("1", "1")


def test_the_engines_own_deadline_is_the_plans():
    assert (
        dict(VLLM.environment(a_plan(), some_serving(startup_seconds=1720)))["VLLM_ENGINE_READY_TIMEOUT_S"]
        == "1720"
    )


LIMITS = st.lists(
    st.tuples(st.sampled_from(MODALITIES), st.integers(0, 999)), unique_by=lambda limit: limit[0]
).map(tuple)
ANY_SETTINGS = st.builds(
    Settings,
    context_length=st.integers(256, 262144),
    max_sequences=st.integers(1, 4096),
    max_batched_tokens=st.integers(2048, 65536),
    kv_cache_precision=st.sampled_from(KvPrecision),
    tensor_parallel=st.sampled_from([1, 2, 4, 8]),
    utilization_percent=st.integers(1, 100),
    modality_limits=LIMITS,
    async_scheduling=st.booleans(),
    enforce_eager=st.booleans(),
    drafting=st.none() | st.builds(Drafting, st.sampled_from(["google/e", "b/31B"]), st.integers(1, 8)),
    adapters=st.none() | st.builds(Adapters, st.integers(1, 16), st.sampled_from([8, 16, 64, 512])),
)


@given(settings=ANY_SETTINGS, version=st.sampled_from(VERSIONS))
def test_a_command_line_says_its_settings_again_with_every_version(settings, version):
    words = arguments(plan=a_plan(settings=settings, engine_version=version))
    assert VLLM.settings(words, version=version) == settings


def test_a_later_flag_wins_as_in_the_engine():
    words = (*arguments(), "--max_num_seqs=8", "--enforce-eager")
    assert VLLM.settings(words) == some_settings(max_sequences=8, enforce_eager=True)


@pytest.mark.parametrize(
    ("extra_args", "overrides"),
    [
        (["--enforce-eager"], (("enforce-eager", "true"),)),
        (["--no-enforce-eager"], (("enforce-eager", "false"),)),
        (["--enforce-e"], (("enforce-eager", "true"),)),
        (["--block-size", "32"], (("block-size", "32"),)),
        (
            ["--block_size=32", "--disable-hybrid-kv-cache-manager"],
            (("block-size", "32"), ("disable-hybrid-kv-cache-manager", "true")),
        ),
        (["--seed", "7"], ()),
    ],
)
def test_flags_that_change_what_fits_reach_the_planner(extra_args, overrides):
    extra = VLLM.extra_arguments(extra_args)
    assert (extra.overrides, extra.unknown) == (overrides, ())


@pytest.mark.parametrize(
    "words",
    [
        ("--attention-backend", "FLASH_ATTN"),
        ("--attention-config", '{"backend":"FLASH_ATTN"}'),
        ("--attention-config.backend", "FLASH_ATTN"),
        ("--attention_config.backend=FLASH_ATTN",),
    ],
)
def test_an_attention_backend_reaches_the_planner_however_it_is_said(words):
    assert VLLM.extra_arguments(words).overrides == (("attention-backend", "FLASH_ATTN"),)


@pytest.mark.parametrize(
    "words",
    [
        ("--attention-config", '{"flash_attn_version":3}'),
        ("--attention-config.flash_attn_version", "3"),
        ("--attention-config", "{"),
        ("--attention-config",),
    ],
)
def test_another_member_of_the_attention_config_is_no_backend(words):
    assert VLLM.extra_arguments(words).overrides == ()


@pytest.mark.parametrize(("value", "said"), [("1", "true"), ("0", "false"), ("True", "true"), ("", "false")])
def test_the_users_choice_of_a_model_runner_reaches_the_planner(value, said):
    extra = VLLM.extra_arguments([], environment=[("LOG", "1"), ("VLLM_USE_V2_MODEL_RUNNER", value)])
    assert extra.overrides == (("VLLM_USE_V2_MODEL_RUNNER", said),)


def test_an_estimate_that_keeps_room_for_graphs_cannot_be_turned_off():
    assert is_owned_variable("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")


@pytest.mark.parametrize(
    "name",
    [
        "block-size",
        "compilation-config",
        "cpu-offload-gb",
        "cudagraph-capture-sizes",
        "disable-hybrid-kv-cache-manager",
        "enable-expert-parallel",
        "enable-sleep-mode",
        "enforce-eager",
        "max-cudagraph-capture-size",
        "mm-processor-kwargs",
        "optimization-level",
    ],
)
def test_whatever_changes_memory_is_a_flag_of_the_engine_and_is_told_to_the_planner(name):
    assert f"--{name}" in KNOWN_FLAGS
    assert VLLM.extra_arguments([f"--{name}=1"]).overrides == ((name, "1"),)


def test_the_operator_counts_tokens_as_the_probe_does():
    assert VLLM.generated_tokens({"choices": [{"text": "x"}], "usage": {"completion_tokens": 1}}) == 1
    assert VLLM.generated_tokens({"choices": [{"text": ""}], "usage": {"completion_tokens": 1}}) == 0


def test_flags_that_the_engine_does_not_know_are_named_as_they_were_written_and_without_their_values():
    given = ["--turbo", "9", "--seed=1", "--warp_speed", "--no-turbo", "--no_lights.left=1", "--turbo=8"]
    assert VLLM.extra_arguments(given).unknown == (
        "--turbo",
        "--warp_speed",
        "--no-turbo",
        "--no_lights.left",
    )


def test_one_greedy_token_of_the_served_model_is_asked_for():
    request = VLLM.token_request(model_name="chat")
    body = json.loads(request.body)
    assert request.path == "/v1/completions"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("chat", 1, 0)


def test_the_probe_carries_the_request_as_words_of_their_own():
    request = VLLM.token_request(model_name="chat")
    python, dash_c, script, path, body = VLLM.startup_probe(request)
    assert (python, dash_c, path, body) == ("python3", "-c", request.path, request.body)
    compile(script, "probe", "exec")


def test_the_families_that_are_read_are_those_of_a_real_scrape():
    scrape = (Path(__file__).parents[2] / "data/vllm-0.32/metrics.txt").read_text()
    names = VLLM.metrics
    for family in (
        names.running,
        names.waiting,
        names.kv_usage,
        names.prompt_tokens,
        names.generation_tokens,
        names.requests,
        names.cache_info,
    ):
        assert f"\n{family}{{" in scrape
    assert re.search(rf'{names.requests}{{[^}}]*{names.requests_reason_label}="stop"', scrape)
    assert re.search(rf'{names.cache_info}{{[^}}]*{names.cache_info_tokens_label}="\d+"', scrape)


def test_an_engine_is_found_by_the_name_that_users_write():
    assert engine_named("VLLM").name == "VLLM"
    with pytest.raises(InvalidSpec, match=r"serving\.engine\.name.*known: VLLM"):
        engine_named("SGLANG")
