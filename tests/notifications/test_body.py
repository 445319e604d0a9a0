"""What a notification leads to."""

from __future__ import annotations

import json
from dataclasses import replace

from airflow_monai.notifications.body import Links, notification
from tests.lifecycle.happenings import happening

BASE = "https://a.example"


def test_a_job_is_linked_where_there_is_one_and_the_instance_always() -> None:
    study = happening()
    told = json.loads(notification(study, Links(BASE)).body)
    assert "job_id" not in told and set(told["links"]) == {"workflow_instance", "airflow"}
    assert told["links"]["workflow_instance"].endswith(f"/workflowinstances/{study.instance_id}")

    job = replace(study, dag_id="map.lungs.1.0.0")
    told = json.loads(notification(job, Links(BASE)).body)
    assert told["job_id"] == job.instance_id
    assert told["links"]["job"] == f"{BASE}/monai/app-server/jobs/{job.instance_id}"
