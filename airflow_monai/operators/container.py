"""Run any container image as a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_monai.operators.application import ApplicationOperator

if TYPE_CHECKING:
    from airflow_monai.maps.runners.base import MapJob, Runner
    from airflow_monai.maps.staging import NamedInput
    from airflow_monai.tasks.run import TaskRun


class ContainerOperator(ApplicationOperator):
    """
    Run a container image over the run's payload, and publish what it makes: tasks of type ``docker``.

    It is as durable and as shut in as a MAP: no network, no privileges, nothing to write to but its output folders,
    ``/tmp`` and ``scratch``. What it shares with every operator that runs an application says
    :class:`~airflow_monai.operators.application.ApplicationOperator`. It needs the docker runner, or the
    kubernetes runner and its own ``entrypoint``.

    Each input artifact is a folder that can only be read, each output artifact one of its own that can be written to,
    both at the path that ``paths`` gives them. The files in an output's folder are the artifact; a ``metadata.json`` in
    any of them is the task's result.

    :param image: reference of the image. The engine gets it from its registry where it does not have it.
    :param entrypoint: and ``command``: lists of words in place of the image's own. They and ``environment`` may hold
        ``{{ context... }}``; a value stays in its word, whatever it holds.
    :param paths: artifact name -> absolute path in the container.
    :param scratch: a path in the container that it may write to, kept in memory, within the task's memory limit.
    :param user: ``uid`` or ``uid:gid`` to run as; the site's setting when empty. Not root.
    :param always_pull: ask the registry for the image although the engine has it.
    """

    spec_type = custom_operator_name = "docker"
    noun = "image"
    ui_color = "#c9e1ee"

    def __init__(
        self,
        *,
        image: str,
        paths: Mapping[str, str],
        entrypoint: Sequence[str] | None = None,
        command: Sequence[str] | None = None,
        scratch: str = "",
        user: str = "",
        always_pull: bool = False,
        **kwargs: Any,
    ):
        super().__init__(application=image, **kwargs)
        self.image = image
        self.paths = dict(paths)
        self.entrypoint = None if entrypoint is None else list(entrypoint)
        self.command = None if command is None else list(command)
        self.scratch = scratch
        self.user = user
        self.always_pull = always_pull

    def job_of(self, run: TaskRun, runner: Runner, inputs: list[NamedInput]) -> MapJob:
        from airflow_monai.maps.container import Container, container_job

        container = Container(
            entrypoint=self._words(run, self.entrypoint),
            command=self._words(run, self.command),
            paths=self.paths,
            outputs={str(output["name"]): _folder_of(output) for output in self.outputs},
            scratch=self.scratch,
        )
        image = runner.image(self.image, always_pull=self.always_pull)
        return container_job(run, image, container, inputs, self.wish(run, runner, user=self._user()))

    def _words(self, run: TaskRun, words: list[str] | None) -> tuple[str, ...] | None:
        return None if words is None else tuple(self.resolved(run, words))

    def _user(self) -> str:
        uid, _, gid = self.user.partition(":")
        return f"{uid}:{gid or uid}" if uid else ""


def _folder_of(output: Mapping[str, Any]) -> str:
    """Where in the task's output folder an artifact lies: what its value says, else a folder of its name."""
    _, _, below = str(output.get("value") or "").partition("}}")
    return below.strip().strip("/") or str(output["name"])
