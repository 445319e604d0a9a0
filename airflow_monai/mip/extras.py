"""What a run of the job server adds to its modules' applications: words of the command line, and a secret."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from airflow_monai.errors import SecretsUnsafe
from airflow_monai.mip.ledger import Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.store.base import Store


@dataclass(frozen=True, slots=True)
class Extras:
    """
    :param words: come last on the application's command line.
    :param secrets: environment variables that only the application gets to see.
    """

    words: tuple[str, ...] = ()
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


NONE = Extras()


def extras_of(store: Store, dag_run_id: str, module: str, variable: str, decrypt: Callable[[str], str]) -> Extras:
    """What a module gets of its run; nothing in every other run of Airflow.

    :param variable: name of the environment variable for a key.
    :param decrypt: raises :class:`SecretsUnsafe` when it cannot.
    :raises SecretsUnsafe: when there is one and it cannot be decrypted, or is there no more.
    """
    run_id = RunId.of_dag_run(dag_run_id)
    ledger = Ledger(store)
    run = ledger.run(run_id) if run_id is not None else None
    if run is None:
        return NONE
    data = ledger.encrypted_key(run)
    if run.key_name and data is None:
        raise SecretsUnsafe(f"The key that came with run {run.run_id} was forgotten when that had ended: post it anew.")
    return Extras(run.extra_args.get(module, ()), {variable: decrypt(data.decode())} if data else {})
