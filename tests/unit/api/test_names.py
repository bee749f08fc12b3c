"""Names of children: what a Service may be called."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_operator.api.names import child_name, weights_name

DNS_1035 = re.compile(r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$")
OBJECT_NAMES = st.from_regex(
    r"\A[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,3}\Z"
)


@pytest.mark.parametrize(
    ("name", "child"),
    [
        ("chat", "chat"),
        ("chat.team-a", "chat-team-a"),
        ("4-chat", "gd-4-chat"),
        ("a" * 63, "a" * 63),
        ("4" * 60, "gd-" + "4" * 60),
    ],
)
def test_a_name_that_fits_is_kept(name: str, child: str):
    assert child_name(name) == child


def test_long_names_that_begin_alike_stay_apart():
    first, second = child_name("a" * 70 + "-one"), child_name("a" * 70 + "-two")

    assert first != second
    assert len(first) == 63


def test_the_cut_leaves_no_two_dashes():
    assert "--" not in child_name("a" * 53 + "-" + "b" * 20)


@settings(deadline=None)
@given(OBJECT_NAMES)
def test_any_object_gets_a_name_that_a_service_may_have(name: str):
    assert DNS_1035.match(child_name(name))


@settings(deadline=None)
@given(OBJECT_NAMES)
def test_the_weights_job_has_a_name_that_its_pods_may_carry_as_a_label(name: str):
    job = weights_name(name)
    assert DNS_1035.match(job)
    assert job.endswith("-weights")
    assert job != child_name(name)


def test_jobs_of_long_names_stay_apart_too():
    assert weights_name("a" * 60 + "1") != weights_name("a" * 60 + "2")
