"""A table that never goes back in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gemma_operator.apiserver.records import Change, Records


def an_object(name="chat", *, version, value="v", namespace="team"):
    return {
        "metadata": {"namespace": namespace, "name": name, "resourceVersion": str(version)},
        "value": value,
    }


def a_table(**options):
    changes: list[Change[str]] = []
    table: Records[str] = Records(cut=lambda obj: obj["value"], on_change=changes.append, **options)
    return table, changes


def test_what_is_newer_wins_and_what_is_older_is_dropped():
    table, changes = a_table()
    assert table.put(an_object(version=5, value="mine"))
    assert not table.put(an_object(version=4, value="an event from before my write"))
    assert not table.put(an_object(version=5, value="the echo of my write"))
    assert table.get("team", "chat") == "mine"
    assert changes == [Change(("team", "chat"), None, "mine")]


def test_versions_compare_as_numbers():
    table, _ = a_table()
    table.put(an_object(version=9, value="nine"))
    table.put(an_object(version=10, value="ten"))
    assert table.get("team", "chat") == "ten"


def test_a_change_that_changes_nothing_that_is_kept_wakes_nobody():
    table, changes = a_table()
    table.put(an_object(version=5))
    changes.clear()
    assert table.put(an_object(version=6))
    assert changes == []


def test_an_answer_from_before_the_deletion_brings_no_ghost():
    table, changes = a_table()
    table.put(an_object(version=5))
    table.remove(an_object(version=8))
    assert not table.put(an_object(version=7, value="late answer"))
    assert len(table) == 0
    assert changes[-1] == Change(("team", "chat"), "v", None)


def test_an_object_made_again_after_its_deletion_is_seen():
    table, _ = a_table()
    table.put(an_object(version=5))
    table.remove(an_object(version=8))
    assert table.put(an_object(version=9, value="again"))
    assert table.get("team", "chat") == "again"


def test_an_old_deletion_does_not_remove_what_was_made_since():
    table, changes = a_table()
    table.put(an_object(version=9, value="made again"))
    changes.clear()
    assert not table.remove(an_object(version=8))
    assert table.get("team", "chat") == "made again"
    assert changes == []


def test_what_becomes_of_no_interest_is_gone():
    changes = []
    table = Records(cut=lambda obj: obj["value"] or None, on_change=changes.append)
    table.put(an_object(version=5))
    table.put(an_object(version=6, value=""))
    assert len(table) == 0
    assert changes[-1].new is None
    assert not table.put(an_object(version=5))


def test_pruning_drops_what_a_list_lacks_but_not_what_is_newer():
    table, changes = a_table()
    table.put(an_object("kept", version=5))
    table.put(an_object("ghost", version=6))
    table.put(an_object("made after the list", version=11))
    changes.clear()
    assert table.prune({("team", "kept")}, version=10) == [("team", "ghost")]
    assert sorted(name for _, name in table.places()) == ["kept", "made after the list"]
    assert changes == [Change(("team", "ghost"), "v", None)]


def test_an_index_follows_its_value():
    table, _ = a_table(index=lambda value: value or None)
    table.put(an_object("a", version=1, value="n1"))
    table.put(an_object("b", version=2, value="n1"))
    assert table.by("n1") == ("n1", "n1")
    table.put(an_object("a", version=3, value="n2"))
    assert len(table.by("n1")) == 1
    assert table.by("n2") == ("n2",)
    table.remove(an_object("b", version=4))
    assert table.by("n1") == ()
    assert set(table._indexed) == {"n2"}


def test_the_memory_of_deletions_is_bounded():
    table, _ = a_table()
    for version in range(5000):
        table.remove(an_object(f"o{version}", version=version))
    assert len(table._tombstones) <= 1024


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=12).flatmap(
        lambda history: st.tuples(st.just(history), st.permutations(list(enumerate(history, start=1))))
    )
)
def test_any_order_of_arrival_ends_in_the_last_state(case):
    """History: at each version one object is written or deleted; what arrives late changes nothing."""
    history, arrivals = case
    table, _ = a_table()
    for version, (name, written) in arrivals:
        obj = an_object(name, version=version, value=str(version))
        if written:
            table.put(obj)
        else:
            table.remove(obj)
    last = {name: (version, written) for version, (name, written) in enumerate(history, start=1)}
    for name, (version, written) in last.items():
        assert table.get("team", name) == (str(version) if written else None)
