"""Small CT studies and their senders, for the end-to-end tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from airflow_monai.local.phantom import generate
from airflow_monai.local.stack import LocalStack
from airflow_monai.store.payloads import payload_id_of, run_id_of

NOOP_WORKFLOW = """
name: {name}
informatics_gateway: {{ae_title: {aet}, export_destinations: [PACS], quiet_seconds: 1}}
tasks:
  - id: route
    type: router
    task_destinations: [{{name: work}}]
  - id: work
    type: map
    args: {{map: "noop:1.0.0"}}
    artifacts:
      input: [{{name: study, value: "{{{{ context.input.dicom }}}}"}}]
      output: [{{name: result, type: Folder}}]
    task_destinations: [{{name: deliver}}]
  - id: deliver
    type: export
    export_destinations: [{{name: PACS}}]
    artifacts: {{input: [{{name: result, value: "{{{{ context.executions.work.artifacts.result }}}}"}}]}}
"""


def noop_workflow(name: str, aet: str) -> str:
    """A spec of three tasks: router, the quick MAP, export to the PACS."""
    return NOOP_WORKFLOW.format(name=name, aet=aet)


@dataclass(frozen=True)
class SmallStudy:
    """A study on disk."""

    study_uid: str
    files: tuple[Path, ...]

    def payload_id(self, aet: str, sequence: int = 0) -> str:
        """The id of the payload that it becomes at this AE title."""
        return payload_id_of(self.study_uid, aet, sequence)

    def run_id(self, aet: str, sequence: int = 0) -> str:
        """The id of the run that a workflow gets for it."""
        return run_id_of(self.payload_id(aet, sequence))


def make_study(folder: Path, *, slices: int = 3, rows: int = 64) -> SmallStudy:
    info = generate(folder, slices=slices, rows=rows)
    return SmallStudy(info.study_uid, info.files)


def send(stack: LocalStack, aet: str, files: Sequence[Path]) -> list[int]:
    """Send the files in one association and return the status of each; an empty answer counts as -1."""
    ae = AE(ae_title="SENDER")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    assoc = ae.associate("127.0.0.1", stack.ports.dicom, ae_title=aet)
    assert assoc.is_established, f"the gateway refused an association with {aet}"
    try:
        return [assoc.send_c_store(path).get("Status", -1) for path in files]
    finally:
        assoc.release()
