"""Connections that break at any byte, and very many studies at one moment."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from pydicom import dcmread

from airflow_monai.local.stack import LocalStack
from tests.chaos.conftest import amount, report
from tests.chaos.cutter import Cutter
from tests.e2e.flood import at_one_moment, only_a_router
from tests.e2e.helpers import Study, add_workflows, make_studies, payloads_of, send, wait_for_runs

ABORTS_A_STUDY = 10
OVERHEAD = 2000  # bytes of the association and of each image's command, roughly


def test_associations_that_break_at_any_byte_leave_nothing_half_done(stack: LocalStack, tmp_path: Path) -> None:
    aborts = amount("CHAOS_ABORTS", 500)
    add_workflows(stack, only_a_router("aborts", "ABORTS", quiet=20))
    studies = make_studies(tmp_path, "ABORTS", max(1, aborts // ABORTS_A_STUDY), slices=4)
    chance, cutter, failed = random.Random(amount("CHAOS_SEED", 1)), Cutter(stack.ports.dicom), 0
    for study in studies:
        size = sum(path.stat().st_size for path in study.files) + OVERHEAD
        for _ in range(ABORTS_A_STUDY):
            cutter.limit = chance.randrange(size)
            failed += send_through(cutter, study) != 0
            assert_whole(stack, study)
        send(stack, study)
    cutter.close()
    runs = wait_for_runs(stack, "aborts", len(studies), seconds=120 + len(studies))
    assert {run_id: run["state"] for run_id, run in runs.items()} == {study.run_id: "success" for study in studies}
    for payload in payloads_of(stack, "ABORTS"):
        (study,) = [study for study in studies if study.uid == payload["study_instance_uid"]]
        assert sorted(file["sop_instance_uid"] for file in payload["files"]) == sorted(study.sop_uids)
        assert_whole(stack, study)
    report(
        f"""{len(studies) * ABORTS_A_STUDY} associations cut at a random byte ({failed} of them noticed by the sender),
        then {len(studies)} studies sent whole: no partial file was ever visible, every study became one payload and
        one run."""
    )


def send_through(cutter: Cutter, study: Study) -> int:
    command = ["storescu", "-aec", study.aet, "-aet", "CT01", "127.0.0.1", str(cutter.port), *map(str, study.files)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    return subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False).returncode


def assert_whole(stack: LocalStack, study: Study) -> None:
    """Whatever is visible of the study is as it was sent."""
    sources = dict(zip(study.sop_uids, study.files, strict=True))
    for path in (stack.layout.store / "payloads" / study.payload_id / "dcm").rglob("*"):
        if path.is_file():
            assert dcmread(path) == dcmread(sources[path.stem]), f"{path} is not what was sent"


def test_five_hundred_studies_that_are_complete_at_one_moment_get_a_run_each(stack: LocalStack, tmp_path: Path) -> None:
    count = amount("CHAOS_ANNOUNCED", 500)
    flood = at_one_moment(stack, "announced", "ANNOUNCED", count, tmp_path)
    assert flood.missed == ()
    report(
        f"""{count} studies complete at one moment: {count} runs created within {flood.created:.0f} s of the gateway's
        start, all ended after {flood.ended:.0f} s, none lost, none doubled. The API server answered {flood.answers}
        callers meanwhile, the slowest after {flood.slowest:.1f} s."""
    )
