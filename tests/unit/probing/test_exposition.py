"""What one scrape says, and that a full parser says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gemma_operator.engines.registry import engine_named
from gemma_operator.errors import EngineError
from gemma_operator.probing.exposition import MOST_NAMES, EngineSample, sample

NAMES = engine_named("VLLM").metrics
RECORDED = (Path(__file__).parents[2] / "data/vllm-0.32/metrics.txt").read_bytes()


def by_the_full_parser(body: bytes) -> EngineSample:
    """The twin: everything parsed by prometheus_client, then the same figures picked."""
    series = [point for family in text_string_to_metric_families(body.decode()) for point in family.samples]

    def of(name: str):
        return [point for point in series if point.name == name]

    requests: dict[str, int] = {}
    for point in of(NAMES.requests):
        reason = point.labels[NAMES.requests_reason_label]
        requests[reason] = requests.get(reason, 0) + int(point.value)
    tokens = [point.labels[NAMES.cache_info_tokens_label] for point in of(NAMES.cache_info)]
    return EngineSample(
        running=int(sum(point.value for point in of(NAMES.running))),
        waiting=int(sum(point.value for point in of(NAMES.waiting))),
        kv_usage=max((point.value for point in of(NAMES.kv_usage)), default=None),
        kv_tokens=sum(int(word) for word in tokens if word != "None") or None,
        prompt_tokens=int(sum(point.value for point in of(NAMES.prompt_tokens))),
        generation_tokens=int(sum(point.value for point in of(NAMES.generation_tokens))),
        requests=requests,
        models=frozenset(point.labels["model_name"] for point in of(NAMES.generation_tokens)),
    )


def test_the_recorded_scrape():
    assert sample(RECORDED, NAMES) == EngineSample(
        running=0,
        waiting=0,
        kv_usage=0.0,
        kv_tokens=172960,
        prompt_tokens=206,
        generation_tokens=528,
        requests={"stop": 0, "length": 9, "abort": 0, "error": 0, "repetition": 0},
        models=frozenset({"gemma-4-tiny"}),
    )


def test_the_full_parser_says_the_same():
    assert sample(RECORDED, NAMES) == by_the_full_parser(RECORDED)


model_names = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r"), min_size=1)


@given(
    model_names,
    st.lists(
        st.tuples(*[st.integers(min_value=0, max_value=2**40)] * 4, st.floats(0, 1)), min_size=1, max_size=4
    ),
)
def test_the_full_parser_says_the_same_for_any_engines_and_names(model: str, engines):
    registry = CollectorRegistry()
    labels = ["model_name", "engine"]
    running = Gauge(NAMES.running, "", labels, registry=registry)
    usage = Gauge(NAMES.kv_usage, "", labels, registry=registry)
    prompt = Counter(NAMES.prompt_tokens, "", labels, registry=registry)
    generated = Counter(NAMES.generation_tokens, "", labels, registry=registry)
    ended = Counter(NAMES.requests, "", [*labels, NAMES.requests_reason_label], registry=registry)
    for engine, (running_now, prompts, tokens, stops, used) in enumerate(engines):
        running.labels(model, engine).set(running_now)
        usage.labels(model, engine).set(used)
        prompt.labels(model, engine).inc(prompts)
        generated.labels(model, engine).inc(tokens)
        ended.labels(model, engine, "stop").inc(stops)
        ended.labels(model, engine, "length").inc(engine)
    body = generate_latest(registry)
    ours = sample(body, NAMES)
    assert ours == by_the_full_parser(body)
    assert ours.models == {model}
    assert ours.generation_tokens == sum(tokens for _, _, tokens, _, _ in engines)


def series(text: str) -> EngineSample:
    return sample(text.encode(), NAMES)


def test_a_family_may_stand_in_the_first_line_and_end_without_newline():
    assert series('vllm:num_requests_running{engine="0"} 3').running == 3


def test_a_family_without_labels():
    assert series("vllm:generation_tokens_total 7\n").generation_tokens == 7
    assert series("vllm:generation_tokens_total\t7\n").generation_tokens == 7


def test_names_that_only_begin_alike_are_others():
    text = (
        'vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9\n'
        'vllm:num_requests_waiting{engine="0"} 2\n'
        'vllm:num_requests_running{engine="0"} 0\n'
        "other_vllm:num_requests_waiting 5\n"
    )
    assert series(text).waiting == 2


def test_a_label_value_that_looks_like_a_label_or_an_end_fools_nobody():
    text = (
        r'vllm:generation_tokens_total{note="a\",model_name=\"x",odd="}, 7,model_name=",model_name="chat"} 5'
        "\n"
    )
    assert (series(text).generation_tokens, series(text).models) == (5, {"chat"})


def test_escapes_in_label_values_are_undone():
    text = r'vllm:generation_tokens_total{model_name="a\\n\"b\n"} 5'
    assert series(text).models == {'a\\n"b\n'}


@pytest.mark.parametrize("number", ["12", "12.0", "1.2e+01", "12 1795521054304"])
def test_numbers_as_servers_write_them(number):
    assert series(f'vllm:num_requests_running{{engine="0"}} {number}\n').running == 12


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf", "twelve", "", "-1", "1e17", "1e308"])
def test_a_line_without_a_number_that_counts_something_is_left_out(number):
    text = f'vllm:num_requests_running{{engine="0"}} {number}\nvllm:num_requests_running{{engine="1"}} 4\n'
    assert series(text).running == 4


def test_the_fullest_engine_gives_the_usage_and_caches_add_up():
    text = (
        'vllm:kv_cache_usage_perc{engine="0"} 0.25\nvllm:kv_cache_usage_perc{engine="1"} 0.75\n'
        'vllm:cache_config_info{engine="0",kv_cache_size_tokens="1000"} 1.0\n'
        'vllm:cache_config_info{engine="1",kv_cache_size_tokens="2000"} 1.0\n'
    )
    assert (series(text).kv_usage, series(text).kv_tokens) == (0.75, 3000)


def test_an_engine_that_does_not_know_its_cache_says_so():
    text = 'vllm:num_requests_running 0\nvllm:cache_config_info{kv_cache_size_tokens="None"} 1.0\n'
    assert series(text).kv_tokens is None


def test_a_cache_larger_than_any_says_nothing():
    text = f'vllm:num_requests_running 0\nvllm:cache_config_info{{kv_cache_size_tokens="{"9" * 5000}"}} 1.0\n'
    assert series(text).kv_tokens is None


def test_of_ways_to_end_and_models_that_an_engine_makes_up_a_few_are_told_apart():
    ended = "".join(
        f'vllm:request_success_total{{finished_reason="{n}{"x" * 100}"}} 1\n' for n in range(1000)
    )
    models = "".join(f'vllm:generation_tokens_total{{model_name="{n}"}} 1\n' for n in range(1000))
    known = series(ended + models)
    assert sum(known.requests.values()) == 1000
    assert len(known.requests) == MOST_NAMES + 1 == len(known.models) + 1
    assert all(len(reason) <= 64 for reason in known.requests)


figures = st.one_of(st.floats(), st.integers(), st.text("0123456789.e+-", max_size=400))
wanted_names = st.sampled_from(
    [NAMES.running, NAMES.waiting, NAMES.requests, NAMES.cache_info, NAMES.kv_usage]
)


@given(st.lists(st.tuples(wanted_names, st.text(max_size=20), figures), max_size=40))
def test_whatever_an_engine_counts_fits_into_a_figure_of_prometheus(lines):
    said = "".join(
        f'{name}{{finished_reason="{word}",kv_cache_size_tokens="{number}"}} {number}\n'
        for name, word, number in lines
    )
    known = series(f"{said}vllm:generation_tokens_total 1\n")
    counts = (known.running, known.waiting, known.kv_tokens or 0, *known.requests.values())
    assert all(0 <= count <= len(lines) * 2**53 for count in counts)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff\xfe", b"python_gc_objects_collected_total 4\n"])
def test_what_is_no_scrape_of_this_engine_is_refused(body):
    with pytest.raises(EngineError, match="vllm:generation_tokens_total"):
        sample(body, NAMES)


@given(st.binary(max_size=300))
def test_noise_beside_a_good_line_neither_breaks_nor_hides_it(noise: bytes):
    good = b'vllm:num_requests_waiting{engine="0"} 7'
    body = (
        b"vllm:num_requests_running{"
        + noise.replace(b"\nvllm", b"")
        + b"\n"
        + good
        + b"\nvllm:num_requests_running 1"
    )
    assert sample(body, NAMES).waiting == 7
