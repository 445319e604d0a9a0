"""Airflow's API server with our plugin, under whichever auth manager the environment names, in a process of its own: an
auth manager may change the whole process that it is in (FAB its logging, Flask and tables).

``python -m tests.api.auth_managers.server PORT FOLDER``: FAB's first person is made, and the folder's workflows
are parsed, as the DAG processor does, so that FAB knows a resource for each DAG.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from airflow.api_fastapi.app import create_app, get_auth_manager

from tests.api.airflow_rows import parse

ADMIN = "admin"
"""Name and password of FAB's first person, as ``airflow users create`` would make them."""


def main() -> None:
    port, folder = sys.argv[1:]
    app = create_app("core")
    manager = get_auth_manager()
    if hasattr(manager, "flask_app"):
        with manager.flask_app.app_context():
            people = manager.security_manager
            if people.find_user(ADMIN) is None:
                for file in sorted(Path(folder).glob("*.yaml")):
                    parse(file.read_text("utf-8"))
                people.add_user(ADMIN, ADMIN, ADMIN, "admin@hospital.example", people.find_role("Admin"), ADMIN)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", proxy_headers=False)


if __name__ == "__main__":
    main()
