"""The app on a socket, in a process of its own: ``python -m tests.api.app_server.server``. It prints its port."""

from __future__ import annotations

import socket
import sys


def main() -> None:
    import uvicorn
    from airflow.api_fastapi.app import init_auth_manager
    from fastapi import FastAPI

    from airflow_monai.api.app import create_app

    init_auth_manager()
    site = FastAPI()
    site.mount("/monai", create_app())
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(site, log_level="warning", timeout_keep_alive=5)).run([listening])


if __name__ == "__main__":
    sys.exit(main())
