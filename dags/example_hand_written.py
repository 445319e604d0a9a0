"""
### A workflow written by hand

The operators of this package work in any DAG. This one waits for a study that is sent to the AE title `CTLUNG`, runs
the sample MAP on it and delivers the segmentation to `PACS`. Nothing starts it by itself: trigger it, then send a
study.

| task | what it does |
|---|---|
| `arrived` | waits for the study in the triggerer, and returns the payload's id |
| `segment` | runs the MAP `lung-seg:1.0.0` on the study |
| `to_pacs` | sends the segmentation to the Airflow connection `PACS` (type: DICOM node) |

Most workflows need no Python: a YAML file in the workflow folder says the same in fewer lines, and gets a run for each
study that arrives.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_monai.operators.export import ExportOperator
from airflow_monai.operators.map import MapOperator
from airflow_monai.sensors.payload import PayloadArrivedSensor

with DAG(
    dag_id="example_hand_written",
    description="Wait for a study, segment it, deliver the result",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    tags=["monai", "example"],
) as dag:
    arrived = PayloadArrivedSensor(task_id="arrived", ae_title="CTLUNG", timeout=timedelta(hours=1))
    segment = MapOperator(
        task_id="segment",
        map="lung-seg:1.0.0",
        payload_id=arrived.output,
        outputs=[{"name": "seg", "type": "SEG"}],
        result_keys=["volume_ml"],
        retries=2,
    )
    to_pacs = ExportOperator(
        task_id="to_pacs",
        payload_id=arrived.output,
        destinations=["PACS"],
        inputs=[{"name": "seg", "value": "{{ context.executions.segment.artifacts.seg }}"}],
        retries=2,
    )
    segment >> to_pacs
