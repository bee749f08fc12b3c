import pytest

from gemma_operator.errors import UsageError
from gemma_operator.sandbox.paths import StateFolder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", "-a", "a-", "a" * 41])
def test_a_name_cannot_leave_its_folder(name):
    with pytest.raises(UsageError, match="cannot name a sandbox"):
        StateFolder.named(name)


def test_state_is_read_back_and_absent_state_is_empty():
    folder = StateFolder.named("demo")
    assert folder.read_state() == {}
    folder.path.mkdir(parents=True)
    folder.write_state({"block": 10})
    assert folder.read_state() == {"block": 10}
    (folder.path / "state.json").write_text("{")
    assert folder.read_state() == {}


def test_lock_files_are_no_sandboxes():
    folder = StateFolder.named("demo")
    folder.path.mkdir(parents=True)
    folder.lock_file.touch()
    assert [found.name for found in StateFolder.all_existing()] == ["demo"]
