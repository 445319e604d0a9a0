"""Plans for tests, made from workflow text as users write it."""

from __future__ import annotations

from airflow_monai.factory.compile import compile_plan
from airflow_monai.specs.plan import WorkflowPlan

LUNG = """\
name: ct lung
version: 1.0.0
description: Finds lungs
informatics_gateway:
  ae_title: CT LUNG
  data_origins: [CT01, "CT/2"]
  export_destinations: [PACS, ARCHIVE]
tasks:
  - id: route
    type: router
    task_destinations:
      - {name: segment, conditions: ["{{ context.input.patient_details.sex }} == 'M'"]}
      - {name: archive}
  - id: segment
    type: map
    description: Lungs
    args: {map: "lung-seg:1.2.0"}
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
      output: [{name: seg, type: SEG}]
    retries: 3
    timeout_minutes: 30
    resources: {cpu: 2, memory: 4Gi}
    task_destinations:
      - {name: to-pacs, conditions: ["{{ context.executions.segment.result.volume_ml }} > '500'"]}
      - {name: archive}
  - id: to-pacs
    type: export
    export_destinations: [{name: PACS}]
    artifacts:
      input: [{name: seg, value: "{{ context.executions.segment.artifacts.seg }}"}]
  - id: archive
    type: export
    export_destinations: [{name: ARCHIVE}]
    artifacts:
      input: [{name: study, value: "{{ context.input.dicom }}"}]
"""


def plan_of_text(text: str = LUNG) -> WorkflowPlan:
    return compile_plan(text, "lung.yaml")
