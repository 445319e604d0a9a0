"""Exports from a store in a bucket: the tests of exports that matter most, once more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_monai.store.s3 import S3Store
from airflow_monai.types import TaskRecord, TaskStatus
from tests.operators.test_export import (  # noqa: F401
    Site,
    test_a_cleared_task_sends_nothing_twice,
    test_a_retry_sends_only_what_is_missing,
    test_one_destination_down_does_not_stop_the_other,
    test_received_images_can_be_sent_on,
    test_results_reach_the_pacs_and_the_folder,
    test_what_a_cleared_task_makes_anew_goes_beside_what_it_made_before,
)
from tests.operators.test_export import site as local_site  # noqa: F401
from tests.s3_server import S3Server, s3  # noqa: F401


@dataclass
class BucketSite(Site):
    """A site whose store is in a bucket; results are made on this host and copied there."""

    bucket: Any = None

    @property
    def store(self) -> Any:
        return self.bucket

    def generation(self, number: int) -> Path:
        return self.folder / "made" / self.run.output_key("segment", -1, number) / "seg"

    def made(self, *paths: Path) -> None:
        keys = {path: path.relative_to(self.folder / "made").as_posix() for path in paths}
        self.bucket.put_all(keys.items())
        self.run.write_record(
            TaskRecord(
                task_id="segment",
                task_type="map",
                status=TaskStatus.SUCCEEDED,
                execution_id="x",
                output_dir=next(iter(keys.values())).rpartition("/seg/")[0],
                artifacts={"seg": tuple(sorted(keys.values()))},
            )
        )


@pytest.fixture
def site(
    local_site: Site,  # noqa: F811
    s3: S3Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> BucketSite:
    store: S3Store = s3.store(tmp_path)
    store.put_tree(tmp_path / "store" / "payloads", "payloads")
    monkeypatch.setenv("AIRFLOW_CONN_MONAI_STORE", s3.connection)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE", store.url)
    monkeypatch.setenv("AIRFLOW__MONAI__STORE_CONN_ID", "monai_store")
    monkeypatch.setenv("AIRFLOW__MONAI__SPOOL_FOLDER", str(tmp_path / "spool"))
    return BucketSite(tmp_path, local_site.payload, monkeypatch, bucket=store)
