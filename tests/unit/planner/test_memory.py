"""What an engine may use of a device."""

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.hardware.records import Sharing
from gemma_operator.planner.memory import device
from unit.planner.shapes import a_pool

ENGINE = packaged().engines["VLLM"]
MIB = 1024**2


def device_of(shape, version="0.32"):
    return device(shape, packaged().accelerators.get(shape.accelerator), ENGINE, version=version)


def test_a_card_whose_figure_is_known_is_what_torch_sees():
    l4 = device_of(a_pool("nvidia-l4"))
    assert (l4.visible_mib, l4.utilization_percent) == (22558, 92)
    assert l4.usable_bytes == 22558 * MIB * 92 // 100


def test_the_margin_comes_off_where_no_log_gave_a_figure():
    assert device_of(a_pool("nvidia-a10g")).visible_mib == 23028 - 768


def test_an_unknown_card_is_planned_from_its_memory():
    assert device_of(a_pool("unknown", memory_mib=48000)).visible_mib == 48000 - 768


def test_a_clouds_figure_for_the_card_is_still_the_card():
    assert device_of(a_pool("nvidia-l4", memory_mib=22888)).visible_mib == 22558
    assert device_of(a_pool("nvidia-h100-80gb", memory_mib=81920)).visible_mib == 81080


def test_never_more_than_the_node_reports():
    assert device_of(a_pool("nvidia-l4", memory_mib=22000)).visible_mib == 22000


def test_a_part_of_a_card_is_not_the_card():
    assert device_of(a_pool("nvidia-rtx-pro-6000", memory_mib=48943)).visible_mib == 48943 - 768


def test_a_slice_is_a_small_card():
    mig = a_pool("nvidia-h100-80gb", sharing=Sharing.MIG, memory_mib=40320)
    assert device_of(mig).visible_mib == 40320 - 768
    assert device_of(mig).utilization_percent == 92
    assert device_of(a_pool("nvidia-h100-80gb", sharing=Sharing.MIG, memory_mib=None)) is None


def test_a_time_sliced_card_is_seen_whole_and_used_in_part():
    shared = a_pool("nvidia-a10", sharing=Sharing.TIME_SLICING, clients_per_device=4, memory_mib=23028 // 4)
    found = device_of(shared)
    assert (found.visible_mib, found.utilization_percent) == (22589, 23)
    assert 4 * found.usable_bytes <= 22589 * MIB * 92 // 100


def test_what_nothing_tells_is_not_guessed():
    assert device_of(a_pool("unknown")) is None
    assert device_of(a_pool("nvidia-h100-80gb", memory_mib=None)).visible_mib == 81080


def test_memory_that_is_the_hosts_is_used_less():
    found = device_of(a_pool("nvidia-gb10"))
    assert (found.visible_mib, found.utilization_percent) == (122572, 80)


@pytest.mark.parametrize(("version", "percent"), [("0.19.1", 90), ("0.20.0", 92)])
def test_the_share_is_the_versions_default(version, percent):
    assert device_of(a_pool("nvidia-l4"), version).utilization_percent == percent
