"""Plans of past versions: as the bundle that made them keeps them, read once each, and not without end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_monai.bundles.reader import SpecFolderReader
from airflow_monai.bundles.snapshot import Snapshot
from airflow_monai.errors import StoreError
from airflow_monai.factory.past_plans import PastPlans
from airflow_monai.factory.versions import version_key
from airflow_monai.store.local import LocalStore
from tests.bundles.conftest import spec

NAMES = ("a", "b", "c")


class Counted(LocalStore):
    """Knows what was read of it."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.reads: list[str] = []

    def read(self, key: str) -> bytes:
        self.reads.append(key)
        return super().read(key)


@pytest.fixture
def store(tmp_path: Path) -> Counted:
    return Counted(tmp_path / "store")


def keep(store: LocalStore, folder: Path, names: Sequence[str] = NAMES, ae_title: str = "CTLUNG") -> str:
    """The version of a folder with workflows of these names, as a bundle publishes it."""
    folder.mkdir()
    (folder / "defaults.yaml").write_text("tasks:\n  timeout_minutes: 30\n")
    for name in names:
        (folder / f"{name}.yaml").write_text(spec(name).replace("CTLUNG", ae_title))
    (folder / "bad.yaml").write_text("name: [")
    snapshot = SpecFolderReader(folder).scan()
    store.write_json(version_key("workflows", snapshot.version), snapshot.to_dict())
    return snapshot.version


def test_a_version_is_read_once_whichever_of_its_dags_are_asked_for(store: Counted, tmp_path: Path) -> None:
    version, plans = keep(store, tmp_path / "specs"), PastPlans()
    for name in (*NAMES, *NAMES, "none"):
        plan = plans.plans(store, [(version, name)])[version, name]
        assert (plan.name if plan else "none") == name
    assert plans.plans(store, [(version, "a"), (version, "b")])[version, "b"] is not None
    assert store.reads == [version_key("workflows", version)]


def test_each_version_says_what_it_said(store: Counted, tmp_path: Path) -> None:
    before, after = keep(store, tmp_path / "one"), keep(store, tmp_path / "two", ae_title="OTHER")
    found = PastPlans().plans(store, [(before, "a"), (after, "a"), ("f00", "a")])
    assert [plan.ae_title if plan else None for plan in found.values()].count("CTLUNG") == 1
    assert {version: plan.ae_title if plan else None for (version, _), plan in found.items()} == {
        before: "CTLUNG",
        after: "OTHER",
        "f00": None,
    }


def test_so_much_is_kept_and_no_more(store: Counted, tmp_path: Path) -> None:
    versions = [keep(store, tmp_path / name, ae_title=name.upper()) for name in ("one", "two", "three")]
    plans = PastPlans(kept=1, records=2 * len(NAMES) + 2)
    for version in versions:
        assert plans.plans(store, [(version, "a")])[version, "a"] is not None
    assert len(plans._plans) == 1 and list(plans._versions) == [(store.url, version) for version in versions[1:]]
    store.reads.clear()
    assert plans.plans(store, [(versions[1], "b")])[versions[1], "b"] is not None and store.reads == []
    assert plans.plans(store, [(versions[0], "b")])[versions[0], "b"] is not None and len(store.reads) == 1
    # the one that was not asked for longest has gone
    assert list(plans._versions) == [(store.url, versions[1]), (store.url, versions[0])]


def test_a_version_with_more_than_may_be_kept_is_read_once_too(store: Counted, tmp_path: Path) -> None:
    version, plans = keep(store, tmp_path / "specs"), PastPlans(records=1)
    for name in NAMES:
        assert plans.plans(store, [(version, name)])[version, name] is not None
    assert len(store.reads) == 1


def test_a_store_that_is_away_is_asked_again(store: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version, plans = keep(store, tmp_path / "specs"), PastPlans()
    with monkeypatch.context() as away:
        away.setattr(LocalStore, "exists", _away)
        assert plans.plans(store, [(version, "a")]) == {(version, "a"): None}
    assert plans.plans(store, [(version, "a")])[version, "a"] is not None


def _away(*_: object) -> bool:
    raise StoreError("the store is away")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"format": 1, "entries": [["a.yaml"]]}', b'{"format": 2}'])
def test_what_this_release_cannot_read_is_none(store: Counted, data: bytes) -> None:
    store.write(version_key("workflows", "f00"), data)
    assert PastPlans().plans(store, [("f00", "a")]) == {("f00", "a"): None}


def test_a_version_comes_back_as_it_was(store: Counted, tmp_path: Path) -> None:
    """With defaults files, one without a plan, one whose name is taken, and one that is only there for its runs."""
    folder = tmp_path / "specs"
    keep(store, folder)
    (folder / "z.yaml").write_text(spec("a"))
    first, *others = SpecFolderReader(folder).scan().entries
    made = Snapshot((replace(first, closing=True), *others))
    assert any(entry.defaults for entry in made.entries) and any(entry.refused for entry in made.entries)
    store.write_json("kept", made.to_dict())
    again = Snapshot.from_dict(store.read_json("kept"))
    assert (again.version, again.dag_files()) == (made.version, made.dag_files())
    assert [(entry.closing, entry.defaults) for entry in again.entries] == [
        (entry.closing, entry.defaults) for entry in made.entries
    ]
