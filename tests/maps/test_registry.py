"""Registering and unregistering MAPs, one at a time and many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from airflow_monai.errors import MapNotFound, MonaiError, RegistryError, StoreError
from airflow_monai.maps.registry import MapRegistry, RegisteredMap, check_name, check_version
from airflow_monai.store import Store
from airflow_monai.store.local import LocalStore
from tests.maps.registered import digest, image_map
from tests.s3_server import s3  # noqa: F401


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return LocalStore(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3").store(tmp_path)


@pytest.fixture
def registry(store: Store) -> MapRegistry:
    return MapRegistry(store)


def labels(registry: MapRegistry) -> list[str]:
    return [record.label for record in registry.listing().registered()]


def test_what_is_registered_is_kept_with_who_and_when(registry: MapRegistry, store: Store) -> None:
    done, is_new = registry.register(image_map(repo_digest=f"reg/lung@{digest('b')}"))
    assert is_new and done.registered_at and done.registered_by and done.revision == 1
    assert store.read_json("maps/lung/1.0.0.json")["digest"] == digest("a")
    again = MapRegistry(store).newest("lung", "1.0.0")
    assert again == done
    assert done.pinned == f"reg/lung@{digest('b')}"
    assert done.manifest().timeout_seconds == 60


def test_the_same_again_is_harmless(registry: MapRegistry, store: Store) -> None:
    first, _ = registry.register(image_map())
    assert registry.register(image_map()) == (first, False)
    assert list(store.list("maps")) == ["maps/lung/1.0.0.json"]


def test_another_content_under_the_same_version_is_refused_with_both_digests(registry: MapRegistry) -> None:
    registry.register(image_map())
    with pytest.raises(RegistryError) as raised:
        registry.register(image_map(content="b"), replace_options=True)
    message = str(raised.value)
    assert digest("a") in message and digest("b") in message
    assert "--version" in message
    found = registry.newest("lung", "1.0.0")
    assert found is not None and found.digest == digest("a")


def test_other_options_need_replace(registry: MapRegistry) -> None:
    first, _ = registry.register(image_map())
    with pytest.raises(RegistryError, match=r"'LUNG'.*'OTHER'.*--replace"):
        registry.register(image_map(ae_title="OTHER"))
    done, is_new = registry.register(image_map(ae_title="OTHER"), replace_options=True)
    assert is_new and done.revision == 2 and done.ae_title == "OTHER"
    assert done.registered_at == first.registered_at
    assert registry.revision("lung", "1.0.0", 1) == first  # a task that began with it can still read it


def test_unregistered_it_stays_known_and_can_be_registered_anew(registry: MapRegistry) -> None:
    registry.register(image_map())
    gone, is_new = registry.unregister("lung", "1.0.0")
    assert is_new and not gone.is_registered and gone.digest == digest("a")
    assert registry.unregister("lung", "1.0.0") == (gone, False)
    assert labels(registry) == []
    registry.mark_used(gone)
    with pytest.raises(RegistryError, match=r"was registered as .*A version that was run means one content for ever"):
        registry.register(image_map(content="b"))
    back, _ = registry.register(image_map(ae_title="ELSE"))
    assert back.revision == 3 and labels(registry) == ["lung:1.0.0"]
    states = [(item.revision, item.is_registered, item.digest) for item in registry.history("lung", "1.0.0")]
    assert states == [(1, True, digest("a")), (2, False, digest("a")), (3, True, digest("a"))]


def test_a_version_that_was_registered_by_mistake_is_free_as_long_as_no_task_has_run_it(registry: MapRegistry) -> None:
    registry.register(image_map())
    with pytest.raises(RegistryError, match=r"maps unregister lung:1\.0\.0` frees the version"):
        registry.register(image_map(content="b"))
    registry.unregister("lung", "1.0.0")
    right, is_new = registry.register(image_map(content="b"))
    assert is_new and right.digest == digest("b") and right.revision == 3
    registry.mark_used(right)
    registry.mark_used(right)
    registry.unregister("lung", "1.0.0")
    with pytest.raises(RegistryError, match="under another version"):
        registry.register(image_map(content="a"))


def test_what_an_earlier_release_registered_may_have_been_run(registry: MapRegistry, store: Store) -> None:
    registry.register(image_map())
    record = store.read_json("maps/lung/1.0.0.json")
    del record["marks_use"]
    store.write_json("maps/lung/1.0.0.json", record)
    later = MapRegistry(store)
    later.unregister("lung", "1.0.0")
    with pytest.raises(RegistryError, match="under another version"):
        later.register(image_map(content="b"))


def test_of_many_at_once_one_content_wins_and_the_others_are_told(store: Store) -> None:
    def register(content: str) -> RegisteredMap | MonaiError:
        try:
            return MapRegistry(store).register(image_map(content=content))[0]
        except RegistryError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(register, "abcd" * 8))
    won = {item.digest for item in results if isinstance(item, RegisteredMap)}
    assert len(won) == 1
    assert all(won.copy().pop() in str(item) for item in results if isinstance(item, RegistryError))
    assert list(store.list("maps")) == ["maps/lung/1.0.0.json"]


def test_registering_and_unregistering_at_once_leave_one_line_of_revisions(store: Store) -> None:
    MapRegistry(store).register(image_map())

    def act(number: int) -> None:
        registry = MapRegistry(store)
        registry.unregister("lung", "1.0.0") if number % 2 else registry.register(image_map())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(40)))
    history = MapRegistry(store).history("lung", "1.0.0")
    states = [item.is_registered for item in history]
    assert [item.revision for item in history] == list(range(1, len(history) + 1))
    assert all(before != after for before, after in pairwise(states))


def test_versions_and_names_that_look_alike_stay_apart(registry: MapRegistry) -> None:
    for name, version in (("lung", "1.0"), ("lung", "1.0.0"), ("lung", "1.0-rc1"), ("lung.x", "1.0"), ("l", "1+a")):
        registry.register(image_map(name, version))
    registry.unregister("lung", "1.0")
    assert labels(registry) == ["l:1+a", "lung:1.0-rc1", "lung:1.0.0", "lung.x:1.0"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "a@b", "ä", "n" * 101, "a\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(registry: MapRegistry, name: str) -> None:
    with pytest.raises(RegistryError, match="--name"):
        check_name(name)
    with pytest.raises(RegistryError):
        registry.register(image_map(name))


@pytest.mark.parametrize("version", ["", "..", "1/2", "1@2", "1 0", "-1", "v" * 65])
def test_a_version_that_could_lead_elsewhere_is_refused(version: str) -> None:
    with pytest.raises(RegistryError, match="--version"):
        check_version(version)


def test_who_asks_for_what_is_not_there_is_told_what_is(registry: MapRegistry) -> None:
    with pytest.raises(MapNotFound, match="None is registered"):
        registry.unregister("lung", "1.0.0")
    registry.register(image_map())
    registry.register(image_map(version="2.0.0"))
    registry.register(image_map("liver"))
    with pytest.raises(MapNotFound, match=r"'lung:3'.*Registered are: lung:1\.0\.0, lung:2\.0\.0\."):
        registry.resolve("lung:3")
    with pytest.raises(MapNotFound, match=r"Several versions of lung are registered \(1\.0\.0, 2\.0\.0\)"):
        registry.resolve("lung")
    assert registry.resolve("liver").label == "liver:1.0.0"
    assert registry.of_label("registry.example/lung:1.0.0") is None  # an image reference, no registered name
    assert registry.of_label("lung") is None


def test_a_damaged_record_is_told_and_hides_no_other(registry: MapRegistry, store: Store) -> None:
    registry.register(image_map())
    store.write("maps/liver/2.json", b"{")
    listing = registry.listing()
    assert [record.label for record in listing.maps] == ["lung:1.0.0"]
    assert "maps/liver/2.json" in listing.damaged["liver:2"]
    with pytest.raises(StoreError, match=r"maps/liver/2\.json"):
        registry.newest("liver", "2")


def test_records_are_read_once(registry: MapRegistry, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(image_map())
    registry.listing()
    monkeypatch.setattr(store, "read", lambda key: pytest.fail(f"read {key} again"))
    assert labels(registry) == ["lung:1.0.0"]
