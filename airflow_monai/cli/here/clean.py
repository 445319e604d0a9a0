"""``airflow monai maps clean``: remove applications that nobody will follow any more, and give their cards back."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any, TextIO

from airflow_monai.cli.ending import ends
from airflow_monai.operators.sweep import free_unused_cards, state_told_by_the_database, sweep

if TYPE_CHECKING:
    from airflow_monai.maps.sweep import Swept
    from airflow_monai.settings import Settings


@ends()
def clean(args: Namespace) -> int:
    from airflow_monai import settings

    return run(settings.load(), args.runner, args.dry_run, args.json, sys.stdout)


def run(settings: Settings, runner: str | None, dry_run: bool, as_json: bool, out: TextIO) -> int:
    """Remove what is left on one engine of this store's tasks, and say of everything there what became of it.

    :param runner: the site's when None.
    :param dry_run: say what would be removed.
    :return: exit code: 1 when something could not be removed.
    :raises MapError: when the engine cannot be asked.
    """
    from airflow_monai.maps.runners import create_runner
    from airflow_monai.store import open_store

    store = open_store(settings.store)
    chosen = create_runner(runner or settings.runner, settings, store)
    swept = sweep(store, chosen, ask=state_told_by_the_database, dry_run=dry_run)
    freed = free_unused_cards(dry_run=dry_run)
    if as_json:
        facts = {"applications": [_facts(item, dry_run) for item in swept], "cards_freed": freed}
        json.dump(facts, out, indent=2)
        print(file=out)
    else:
        for item in swept:
            print(f"{_word(item, dry_run)}: {item}", file=out)
        for name in freed:
            print(f"{'would free' if dry_run else 'freed'}: the cards of {name}, which is gone", file=out)
        if not (swept or freed):
            print(f"Nothing of {store.url} is on the {chosen.name} engine.", file=out)
    return 1 if any(item.problem for item in swept) else 0


def _word(swept: Swept, dry_run: bool) -> str:
    if swept.problem:
        return "error"
    if not swept.is_over:
        return "kept"
    return "would remove" if dry_run else "removed"


def _facts(swept: Swept, dry_run: bool) -> dict[str, Any]:
    return {
        "name": swept.trace.name,
        "status": swept.trace.status,
        "outcome": _word(swept, dry_run),
        "why": swept.why,
        "problem": swept.problem or None,
    }
