"""`poolAccess`: which namespaces may use which pools."""

import pytest

from gemma_operator.hardware.access import with_access
from gemma_operator.settings import PoolAccess
from unit.planner.builders import a_node, a_pool, a_shape

POOL = a_pool(a_shape("l4"), a_node("n"))


def namespaces(*entries):
    (pool,) = with_access([POOL], [PoolAccess(*entry) for entry in entries])
    return pool.shape.namespaces


@pytest.mark.parametrize(
    ("entries", "kept_for"),
    [
        ((), None),
        (((("l4",), ("a",)),), ("a",)),
        (((("gke-nodepool/l4",), ("a",)),), ("a",)),
        (((("group/l4",), ("a",)),), None),
        (((("h100",), ("a",)),), None),
        (((("l4",), ("b",)), (("h100", "l4"), ("a",))), ("a", "b")),
        (((("l4",), ()),), ()),
    ],
)
def test_a_pool_is_kept_for_the_namespaces_of_the_entries_that_name_it(entries, kept_for):
    assert namespaces(*entries) == kept_for
