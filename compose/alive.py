#!/usr/bin/env python3
"""Health check of a part of Airflow that has no port: it has told the database lately that it lives.

    alive.py SchedulerJob|TriggererJob|DagProcessorJob

As `airflow jobs check --local` does, for a hundredth of the processor time: that one imports all of Airflow.
"""

from __future__ import annotations

import os
import socket
import sys

import psycopg2

SECONDS = 60
QUERY = """SELECT count(*) FROM job WHERE job_type = %s AND state = 'running' AND hostname = ANY(%s)
           AND latest_heartbeat > now() - %s * interval '1 second'"""


def main(job_type: str) -> int:
    """0 when a job of this type and container had a heartbeat within the last minute, else 1."""
    url = os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].replace("postgresql+psycopg2", "postgresql", 1)
    connection = psycopg2.connect(url, connect_timeout=3)
    try:
        with connection.cursor() as cursor:
            cursor.execute(QUERY, (job_type, [socket.gethostname(), socket.getfqdn()], SECONDS))
            (alive,) = cursor.fetchone() or (0,)
    finally:
        connection.close()
    print(f"{job_type}: {alive} with a heartbeat in the last {SECONDS} s")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
