"""Quantities are written as the API server writes them back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from gemma_operator.backends.kubernetes import quantities


@pytest.mark.parametrize(
    ("millis", "text"), [(500, "500m"), (8000, "8"), (8500, "8500m"), (2_000_000, "2k"), (0, "0")]
)
def test_cpu(millis, text):
    assert quantities.cpu(millis) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (48 * 1024**3, "48Gi"),
        (1536 * 1024**2, "1536Mi"),
        (1024 * 1000, "1000Ki"),
        (100_000_000_000, "97656250Ki"),
        (1_000_001, "1000001"),
        (5_000_000, "5M"),
        (0, "0"),
    ],
)
def test_memory(size_bytes, text):
    assert quantities.memory(size_bytes) == text


@given(size_bytes=st.integers(0, 2**60))
def test_memory_loses_nothing(size_bytes):
    assert parse_quantity(quantities.memory(size_bytes)) == size_bytes


@given(millis=st.integers(0, 10**9))
def test_cpu_loses_nothing(millis):
    assert parse_quantity(quantities.cpu(millis)) * 1000 == millis
