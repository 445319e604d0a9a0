#!/bin/sh
# `make test-compose`: builds the image, starts docker-compose.yaml with secrets and ports of its own, sends one phantom
# study by C-STORE, waits for the run and for the result in the PACS, then stops and removes containers, networks and
# volumes. The image stays for the next time (docker image rm airflow-monai:0.1.0 airflow-monai-packages:0.1.0).
cd "$(dirname "$0")/.." && exec "${PYTHON:-.venv/bin/python}" compose/smoke.py
