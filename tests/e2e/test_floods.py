"""Very many studies at one moment, the smallest study and a very large one."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.local.stack import LocalStack
from tests.e2e.flood import at_one_moment
from tests.e2e.helpers import add_workflows, export, make_study, payloads_of, send, wait_for_runs, workflow

AT_ONCE, LARGE = 60, 3000


def test_sixty_studies_that_are_complete_at_one_moment_get_a_run_each(stack: LocalStack, tmp_path: Path) -> None:
    flood = at_one_moment(stack, "at-once", "ATONCE", AT_ONCE, tmp_path)
    assert flood.missed == (), f"the API server left somebody without an answer; the slowest took {flood.slowest:.1f} s"


@pytest.fixture(scope="module")
def forwarding(stack: LocalStack) -> None:
    received = {"input": [{"name": "all", "value": "{{ context.input.dicom }}"}]}
    add_workflows(stack, workflow("sizes", "SIZES", export("keep", ["ARCHIVE"], artifacts=received)))


@pytest.mark.parametrize("images", [1, LARGE])
def test_a_study_of_any_size_is_one_payload_and_delivered_whole(
    stack: LocalStack, forwarding: None, tmp_path: Path, images: int
) -> None:
    study = make_study(tmp_path, "SIZES", slices=images)
    before = len(stack.runs("sizes"))
    send(stack, study)
    runs = wait_for_runs(stack, "sizes", before + 1, seconds=480)
    assert runs[study.run_id]["state"] == "success"
    (payload,) = [found for found in payloads_of(stack, "SIZES") if found["payload_id"] == study.payload_id]
    assert sorted(file["sop_instance_uid"] for file in payload["files"]) == sorted(study.sop_uids)
    delivered = [path.stem for path in (stack.layout.archive / study.payload_id).rglob("*.dcm")]
    assert sorted(delivered) == sorted(study.sop_uids)
