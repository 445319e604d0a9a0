"""The receiving PACS of the local stack: Orthanc where it is installed, else a small DICOM store of our own."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from airflow_monai.local.environment import OUR_AET, PACS_AET, Ports
from airflow_monai.local.ports import LOOPBACK, answers
from airflow_monai.local.processes import Process


class PacsKind(str, Enum):
    ORTHANC = "orthanc"
    STORE = "store"


def available_kind() -> PacsKind:
    """Orthanc where it is installed."""
    return PacsKind.ORTHANC if shutil.which("Orthanc") else PacsKind.STORE


class Pacs:
    """What the stack's tests and the demo ask of the receiving PACS."""

    def __init__(self, kind: PacsKind, folder: Path, ports: Ports, *, log: Path, env: Mapping[str, str]):
        self.kind = kind
        self.folder = folder
        self.ports = ports
        argv = self._orthanc() if kind is PacsKind.ORTHANC else self._store()
        self.process = Process("pacs", argv, log=log, env=env)

    def ready(self) -> bool:
        return answers(self.ports.pacs) and (self.kind is PacsKind.STORE or answers(self.ports.pacs_http))

    def instances(self) -> list[str]:
        """SOP Instance UIDs that it holds, sorted."""
        if self.kind is PacsKind.STORE:
            return sorted(path.stem for path in self.folder.glob("*/*.dcm"))
        found = self.rest("/tools/find", {"Level": "Instance", "Query": {}, "Expand": True})
        return sorted(item["MainDicomTags"]["SOPInstanceUID"] for item in found)

    def holds(self, sop_instance_uid: str) -> bool:
        """True when the PACS has this instance and gives it back as DICOM."""
        if self.kind is PacsKind.STORE:
            return any(self.folder.glob(f"*/{sop_instance_uid}.dcm"))
        ids = self.rest("/tools/lookup", sop_instance_uid, plain=True)
        instances = [item["ID"] for item in ids if item["Type"] == "Instance"]
        return bool(instances) and self.fetch(instances[0])[128:132] == b"DICM"

    def rest(self, path: str, body: Any = None, *, plain: bool = False) -> Any:
        """Call Orthanc's REST API: a GET, or a POST of ``body`` as JSON (as plain text if ``plain``)."""
        import requests

        url = f"http://{LOOPBACK}:{self.ports.pacs_http}{path}"
        if body is None:
            answer = requests.get(url, timeout=30)
        else:
            answer = requests.post(url, data=body if plain else json.dumps(body), timeout=60)
        answer.raise_for_status()
        return answer.json()

    def fetch(self, orthanc_id: str) -> bytes:
        import requests

        answer = requests.get(f"http://{LOOPBACK}:{self.ports.pacs_http}/instances/{orthanc_id}/file", timeout=60)
        answer.raise_for_status()
        return answer.content

    def _orthanc(self) -> list[str | Path]:
        config = self.folder.parent / "orthanc.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(self._orthanc_config(), indent=2))
        return ["Orthanc", config]

    def _orthanc_config(self) -> dict[str, Any]:
        return {
            "Name": "airflow_monai demo",
            "StorageDirectory": str(self.folder),
            "IndexDirectory": str(self.folder),
            "DicomAet": PACS_AET,
            "DicomPort": self.ports.pacs,
            "HttpPort": self.ports.pacs_http,
            "RemoteAccessAllowed": False,  # REST from this machine only, hence without a password
            "AuthenticationEnabled": False,
            # Orthanc listens on every interface, so it takes images from our AE title on this machine only
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowEcho": True,
            "DicomCheckModalityHost": True,
            "DicomModalities": {"monai": [OUR_AET, LOOPBACK, self.ports.dicom]},
            "DicomCheckCalledAet": False,
            "OverwriteInstances": False,
        }

    def _store(self) -> list[str | Path]:
        module = "airflow_monai.local.pacs_store"
        words = ["--port", str(self.ports.pacs), "--folder", str(self.folder), "--aet", PACS_AET]
        return [sys.executable, "-m", module, *words]
