"""Files that come with an answer are all kept, without a broker in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import ArtifactsReceivedEvent
from airflow_monai.errors import InvalidEvent
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
from airflow_monai.store.giving import Waiting
from airflow_monai.store.local import LocalStore
from airflow_monai.store.payloads import deleted_key

PAYLOAD = "8d0f3f0e-3b8c-4c0e-9a55-2a4f5a0d7e01"


def test_files_of_one_name_from_different_folders_are_all_kept(tmp_path: Path) -> None:
    store, bucket = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "bucket")
    for folder in ("a", "b"):
        bucket.write(f"results/{folder}/seg.dcm", folder.encode())
    output = f"payloads/{PAYLOAD}/workflows/ct/run/elsewhere/g1"
    waiting = Waiting(PAYLOAD, "ct", f"monai__{PAYLOAD}", "elsewhere", -1, 1, "artifacts")
    await_answer(store, AnswerKind.ARTIFACTS, ("w", "t"), Awaited(waiting, output, (("seg", "SEG"),)))
    taker = AnswerTaker(store, Buckets({"site": bucket.url}))

    def tell(*paths: str) -> None:
        ids: dict[str, Any] = {"payload_id": PAYLOAD, "correlation_id": PAYLOAD, "bucket": "site"}
        artifacts = [{"Type": "SEG", "Path": path} for path in paths]
        taker.take(ArtifactsReceivedEvent(**ids, workflow_instance_id="w", task_id="t", artifacts=artifacts))

    tell("results")
    tell("results")  # again
    tell("results/a/seg.dcm")  # by another message
    assert sorted(store.read(key) for key in store.list(output) if key.endswith(".dcm")) == [b"a", b"b"]


@pytest.mark.parametrize("while_it_is_taken", [False, True])
def test_no_files_come_to_a_deleted_payload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, while_it_is_taken: bool
) -> None:
    store, bucket = LocalStore(tmp_path / "store"), LocalStore(tmp_path / "bucket")
    bucket.write("results/seg.dcm", b"a")
    output = f"payloads/{PAYLOAD}/workflows/ct/run/elsewhere/g1"
    waiting = Waiting(PAYLOAD, "ct", f"monai__{PAYLOAD}", "elsewhere", -1, 1, "artifacts")
    await_answer(store, AnswerKind.ARTIFACTS, ("w", "t"), Awaited(waiting, output, (("seg", "SEG"),)))
    if while_it_is_taken:
        create_from = store.create_from

        def deleted_first(key: str, path: Path) -> bool:
            store.write_json(deleted_key(PAYLOAD), {})
            return create_from(key, path)

        monkeypatch.setattr(store, "create_from", deleted_first)
    else:
        store.write_json(deleted_key(PAYLOAD), {})
    artifacts = [{"Type": "SEG", "Path": "results"}]
    event = ArtifactsReceivedEvent(
        payload_id=PAYLOAD, correlation_id=PAYLOAD, bucket="site", workflow_instance_id="w", task_id="t",
        artifacts=artifacts,
    )  # fmt: skip
    with pytest.raises(InvalidEvent, match="deleted"):
        AnswerTaker(store, Buckets({"site": bucket.url})).take(event)
    assert list(store.list(f"payloads/{PAYLOAD}")) == [deleted_key(PAYLOAD)]
