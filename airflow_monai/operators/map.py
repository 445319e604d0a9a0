"""Run a MONAI Application Package (MAP) as a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_monai.operators.application import ApplicationOperator

if TYPE_CHECKING:
    from airflow_monai.maps.runners.base import MapJob, Runner
    from airflow_monai.maps.staging import NamedInput
    from airflow_monai.tasks.run import TaskRun


class MapOperator(ApplicationOperator):
    """
    Run a MAP over the run's payload, in a container or a process, and publish what it makes.

    What it shares with every operator that runs an application (that it is durable, when it is retried, and the further
    arguments ``inputs``, ``outputs``, ``runner``, ``environment``, ``retry_exit_codes``) says
    :class:`~airflow_monai.operators.application.ApplicationOperator`.

    One input artifact becomes the application's input folder, several are folders in it. ``resources`` are in place of
    the MAP's own. Of ``timeout_minutes`` and the time limit in its manifest the shorter one counts.

    :param map: the MAP: ``name:version`` of a registered one, which is run exactly as it was registered; else an image
        reference (``lung-seg:1.2.0``) for the docker runner, ``name:version`` of an unpacked MAP below ``[monai]
        map_path`` for the process runner.
    """

    spec_type = custom_operator_name = noun = "map"
    ui_color = "#cde8d8"

    def __init__(self, *, map: str, **kwargs: Any):
        super().__init__(application=map, **kwargs)
        self.map = map

    def job_of(self, run: TaskRun, runner: Runner, inputs: list[NamedInput]) -> MapJob:
        from airflow_monai.maps.job import map_job
        from airflow_monai.maps.pinning import find_map

        return map_job(run, find_map(run, runner, self.map), inputs, self.wish(run, runner))
