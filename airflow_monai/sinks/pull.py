"""Deliver by clients that come and fetch: export tasks wait in the store until one takes them and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone

from airflow_monai.pulls.tasks import PullFile, PullTask, PullTasks
from airflow_monai.sinks.asked import AskedSink, Round
from airflow_monai.sinks.base import Destination, Instance
from airflow_monai.sinks.order import ExportOrder
from airflow_monai.store.base import safe_name


class PullSink(AskedSink):
    """Offers the instances to export clients (``/monai/workload-manager/sinks/<name>/tasks``).

    The connection's extras: ``destinations``, the names that the client knows, by default that of the connection;
    ``wait``, false to be content with having offered them; ``wait_minutes``, how long one try waits for the report;
    ``any_file``, to offer files that are not DICOM, too.
    """

    asks_by = "its export clients"

    def __init__(self, destination: Destination):
        super().__init__(destination)
        names = destination.text("destinations", default=destination.name)
        self.names = tuple(name.strip() for name in names.split(",") if name.strip())

    def test(self) -> str:
        return f"Export clients fetch from it: GET /monai/workload-manager/sinks/{self.destination.name}/tasks."

    def place(self, order: ExportOrder, instances: Sequence[Instance]) -> Mapping[str, str]:
        """They stay where they are: what a task has made is not changed any more."""
        return {instance.key: self.identity(instance) for instance in instances}

    def request(self, order: ExportOrder, rounds: Sequence[Round]) -> Iterator[Round]:
        tasks = PullTasks(order.store, self.destination.name)
        for round_ in rounds:
            tasks.ask(self._task(order, round_))
            yield round_

    def look(self, order: ExportOrder, round_: Round) -> None:
        """A server may have died between taking the report and handing it over."""
        PullTasks(order.store, self.destination.name).hand_over(self.ids(order, round_)[1])

    def _task(self, order: ExportOrder, round_: Round) -> PullTask:
        instance_id, task_id = self.ids(order, round_)
        return PullTask(
            task_id=task_id,
            sink=self.destination.name,
            workflow_instance_id=instance_id,
            payload_id=order.folder.payload_id,
            dag_id=order.folder.dag_id,
            run_id=order.folder.run_id,
            correlation_id=order.correlation_id,
            destinations=self.names,
            files=tuple(
                PullFile(key, safe_name(key.rpartition("/")[2]), order.store.size(key), identity)
                for key, identity in round_.files.items()
            ),
            created=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            waiting=self.waiting(order, round_) if self.waits else None,
        )
