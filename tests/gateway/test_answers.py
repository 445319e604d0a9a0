"""Files that come with an answer are all kept, without a broker in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_monai.broker.buckets import Buckets
from airflow_monai.broker.events import ArtifactsReceivedEvent
from airflow_monai.gateway.answers import AnswerTaker
from airflow_monai.store.answers import AnswerKind, Awaited, await_answer
from airflow_monai.store.callbacks import Waiting
from airflow_monai.store.local import LocalStore

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
