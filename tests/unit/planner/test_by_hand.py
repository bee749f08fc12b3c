"""A printed sum checked with a pocket calculator: each size from its own line, each total from the lines before it.

Nothing of the planner is asked but the text that an SRE reads. What stands in `how` is arithmetic.
"""

import math
import re

import pytest

from gemma_operator.cli import main

UNITS = {"GiB": 2**30, "MiB": 2**20, "B": 1}
PLANS = {
    "one GPU": ("31B", "bf16", "nvidia-h100-80gb"),
    "four GPUs, 128 sequences": ("31B", "bf16", "nvidia-l4", "--gpus", "4"),
    "blocks of 64": ("31B", "nvfp4", "nvidia-h200", "--gpus", "2", "--kv-bytes", "1"),
    "experts": ("26B-A4B", "w4a16", "nvidia-l40s", "--gpus", "2", "--context", "8000"),
    "text alone": ("31B", "w4a16", "nvidia-l40s", "--modalities", "text"),
    "experts, text alone": ("26B-A4B", "fp8", "nvidia-l40s", "--modalities", "text"),
    "few graphs": ("12B", "bf16", "nvidia-l40s", "--sequences", "16", "--concurrency", "3"),
    "heads on each GPU": ("E2B", "w4a16", "nvidia-l4", "--gpus", "8", "--modalities", "text"),
    "no graphs": ("E4B", "bf16", "nvidia-rtx-4090", "--eager", "--concurrency", "2"),
    "the first runner": ("31B", "bf16", "nvidia-b200", "--engine", "0.22.0", "--context", "65536"),
    "adding up, as older engines do": ("31B", "bf16", "nvidia-b200", "--gpus", "2", "--engine", "0.24.0"),
    "a context that lies in the window": ("E4B", "bf16", "nvidia-l4", "--context", "300"),
    "too small": ("31B", "bf16", "nvidia-l4"),
}


@pytest.fixture(params=PLANS.values(), ids=list(PLANS))
def printed(request, capsys):
    """(section, label) to (size in bytes or None, resolution, how)."""
    variant, precision, gpu, *more = request.param
    main(["memory", "--variant", variant, "--precision", precision, "--gpu", gpu, *more, "--explain"])
    lines = capsys.readouterr().out.split("ON EACH GPU")[1].splitlines()[1:]
    found, section = {}, ""
    for line in lines:
        section = line.split("  ")[0] or section
        label, *cells = re.split(r" {3,}", line[len(section) if line[0] != " " else 0 :].strip())
        *size, how = cells
        found[section, label] = (*(_size(size[0]) if size else (None, 0)), how)
    return found


def _size(text):
    figure, unit = text.split()
    decimals = len(figure.partition(".")[2])
    return float(figure.replace(",", "")) * UNITS[unit], UNITS[unit] * 10.0**-decimals


def calculated(text):
    """School arithmetic: thousands without commas, x for times."""
    text = text.replace(",", "").replace(" x ", " * ")
    assert re.fullmatch(r"[\d.()+*/ -]+", text), text
    return eval(text)


def factors(how):
    """Bytes of `8,477 x 2 B / 2 GPUs`, `2 heads x 512 x 2 (keys and values) x 2 B; ...`, `(0.1 + ...) GiB, ...`."""
    how = re.split(r"[;:]| kept|, the engine", how)[0].removesuffix(",")
    unit = re.search(r"\b(GiB|MiB|B)\b", how)[1]
    words = re.sub(r"\([a-z ]+\)|[A-Za-z]{2,}|\b(B|a|of)\b", "", how)
    return calculated(re.sub(r"(?<!\S)-?(?=\s*x )|\s+", " ", words).strip()) * UNITS[unit]


ARITHMETIC = re.compile(r"^\(?[\d.,]+ .*\d.* (B|MiB|GiB)\b|^\([\d.]+ \+")


def test_each_size_is_what_its_own_line_says(printed):
    checked = set()
    for (section, label), (size, resolution, how) in printed.items():
        if size is None or not ARITHMETIC.match(how) or (section, label) == ("verdict", "needed"):
            continue
        assert factors(how) == pytest.approx(size, abs=resolution), (section, label)
        checked.add(f"{section}: {label}")
    assert checked >= {
        *("weights: attention", "weights: mlp", "weights: embedding", "overhead: forward pass"),
        *("overhead: sampler", "KV cache: a token in a full layer", "KV cache: a block of the pool"),
    }


def test_a_requests_blocks_are_what_its_line_says(printed):
    how = next(how for (_, label), (*_, how) in printed.items() if label.startswith("one request"))
    total, *parts = re.split(r" blocks: |, sliding layers ", how.removesuffix(", rounded up"))
    blocks = 0
    for part in parts:
        groups, each, sum_of = re.fullmatch(r"(?:full layers )?(\d+) x ([\d,]+) \((.*)\)", part).groups()
        assert math.ceil(calculated(sum_of)) == int(each.replace(",", ""))
        blocks += int(groups) * int(each.replace(",", ""))
    assert blocks == int(total.replace(",", ""))


def test_the_totals_are_those_of_the_lines(printed):
    def size(section, label):
        return printed[section, label][0]

    def of(section, last):
        return {
            name: size for (part, name), (size, *_) in printed.items() if part == section and name != last
        }

    mib = 2**20
    weights, overhead = of("weights", "weights"), of("overhead", "overhead")
    larger = max(overhead.pop(name, 0) for name in ("forward pass", "sampler", "copied words"))
    utilization = float(printed["card", "usable"][2].split()[-1])
    block = size("KV cache", "a block of the pool")
    blocks, held = (printed["KV cache", label][2] for label in ("blocks", "requests held at once"))
    count = int(blocks.split()[0].replace(",", ""))
    request = int(held.split(" / ")[1].replace(",", ""))
    needed = int(printed["KV cache", "needed"][2].split()[0].replace(",", ""))

    assert size("card", "seen by the engine") * utilization == pytest.approx(size("card", "usable"), abs=mib)
    assert sum(weights.values()) == pytest.approx(size("weights", "weights"), abs=5 * mib)
    assert sum(overhead.values()) + larger == pytest.approx(size("overhead", "overhead"), abs=3 * mib)
    left = size("card", "usable") - size("weights", "weights") - size("overhead", "overhead")
    assert max(0, left) == pytest.approx(size("KV cache", "left"), abs=2 * mib)
    assert count * block == pytest.approx(max(0, left), abs=2 * mib + block)
    assert float(held.split()[0]) == pytest.approx(count / request, abs=0.005)
    assert needed * block == pytest.approx(size("KV cache", "needed"), abs=mib)
    asked = size("weights", "weights") + size("overhead", "overhead") + size("KV cache", "needed")
    assert asked == pytest.approx(size("verdict", "needed"), abs=2 * mib)
    spare = size("card", "usable") - asked
    assert spare == pytest.approx(size("verdict", "to spare"), abs=3 * mib)
    said = printed["verdict", "to spare"][2].rsplit(" ", 1)[1]
    assert said == ("no" if spare < 0 else "tight" if spare < size("verdict", "band") else "yes")
