"""What several GPUs keep for adding up, against sizes that the engine's and flashinfer's source give."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.vllm.all_reduce import NONE, buffers
from unit.planner.test_overhead import terms_of

MODEL = packaged().engines["VLLM"].overhead.all_reduce


def mib(variant, card, gpus, *, version, tokens=8192, compiled=True):
    found = buffers(
        MODEL,
        packaged().variants[variant],
        engine_version=version,
        capability=card,
        gpus=gpus,
        max_batched_tokens=tokens,
        compiled=compiled,
    )
    return found.size_bytes / 2**20


@pytest.mark.parametrize(
    ("card", "gpus", "expected"),
    [
        # a tensor of each GPU, and a triple buffer of as much
        ((9, 0), 2, 4 * 2 * 64),
        ((9, 0), 4, 4 * 4 * 2),
        ((9, 0), 8, 4 * 8 * 0.5),
        ((10, 0), 2, 4 * 2 * 64),
        ((10, 0), 4, 4 * 4 * 32),
        ((10, 0), 8, 4 * 8 * 1),
        ((10, 3), 4, 4 * 4 * 64),
    ],
)
def test_up_to_0_28_each_gpu_has_room_for_a_tensor_of_every_other(card, gpus, expected):
    """Whole tokens only: 5376 x 2 B of 31B are no part of a MiB."""
    assert mib("31B", card, gpus, version="0.24.0") == pytest.approx(expected, rel=0.02)
    assert mib("31B", card, gpus, version="0.24.0") <= expected


def test_a_small_batch_needs_less():
    assert mib("31B", (9, 0), 2, version="0.24.0", tokens=2048) == 8 * 2048 * 5376 * 2 / 2**20


@pytest.mark.parametrize("gpus", [2, 4, 8])
@pytest.mark.parametrize("card", [(9, 0), (10, 0), (10, 3)])
def test_from_0_29_on_it_is_one_step_of_the_drivers(card, gpus):
    assert mib("31B", card, gpus, version="0.29.0") == 512


@pytest.mark.parametrize(
    ("card", "gpus", "version"),
    [
        ((9, 0), 1, "0.32"),
        ((8, 0), 2, "0.32"),  # no table: A100, and below L40S, RTX PRO 6000
        ((8, 9), 4, "0.32"),
        ((12, 0), 2, "0.32"),
        (None, 2, "0.32"),
        ((9, 0), 2, "0.18.0"),
    ],
)
def test_who_has_no_table_has_no_buffers(card, gpus, version):
    assert mib("31B", card, gpus, version=version) == 0


def test_without_compilation_only_newer_engines_have_them():
    assert mib("31B", (9, 0), 2, version="0.24.0", compiled=False) == 0
    assert mib("31B", (9, 0), 2, version="0.29.0", compiled=False) == 512


def test_a_catalog_may_know_nothing_of_them():
    none = buffers(
        None,
        packaged().variants["31B"],
        engine_version="0.32",
        capability=(9, 0),
        gpus=2,
        max_batched_tokens=8192,
        compiled=True,
    )
    assert none is NONE


def test_they_are_part_of_the_overhead():
    ampere, hopper = (terms_of("31B", gpus=2, card=card).total_bytes for card in ((8, 0), (9, 0)))
    assert hopper - ampere == 512 * 2**20
