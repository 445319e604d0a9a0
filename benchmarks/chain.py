"""Announce to end of a 3-task workflow (router, MAP without a container, export), from YAML and written by hand.

One run at a time gives the time that a study takes; a batch gives the CPU that it costs.
"""

from __future__ import annotations

import os
import sys
from statistics import median

from benchmarks.runs import Batch, make_payloads, run_batch, stack_with
from benchmarks.table import Row

PEERS = {
    "bench_same_operators": "same operators, hand-written",
    "bench_worker_branch": "hand-written, router as a worker task",
}


def run(single: int = int(os.environ.get("BENCH_SINGLE", "8")), batch: int = 40) -> list[Row]:
    """:param single: runs one at a time of each DAG; ``batch``: runs at once of each."""
    rows: list[Row] = []
    with stack_with(["bench_hand_written.py"], ["bench-chain.yaml"]) as stack:
        dags = ["bench-chain", *PEERS]
        for dag_id in dags:
            stack.wait_for_dag(dag_id)
            run_batch(stack, dag_id, make_payloads(stack, 2))  # warm
        alone: dict[str, list[float]] = {dag_id: [] for dag_id in dags}
        for _ in range(single):  # in turn, so that a slow minute of the machine hits all alike
            for dag_id in dags:
                alone[dag_id].append(run_batch(stack, dag_id, make_payloads(stack, 1)).median)
        together: dict[str, Batch] = {dag_id: run_batch(stack, dag_id, make_payloads(stack, batch)) for dag_id in dags}
        for dag_id in dags:
            print(f"  {dag_id}: {median(alone[dag_id]):.2f} s alone, {together[dag_id]}"[:150], file=sys.stderr)
    ours = "bench-chain"
    for peer, text in PEERS.items():
        mine, theirs = median(alone[ours]), median(alone[peer])
        rows.append(
            Row(
                benchmark="chain", case="announce to end, one study", ours=f"{mine:.2f} s", theirs=f"{theirs:.2f} s",
                peer=text, ratio=mine / theirs, bar="<= 1.1", better="lower",
            )
        )  # fmt: skip
        mine, theirs = together[ours].cpu / batch, together[peer].cpu / batch
        rows.append(
            Row(
                benchmark="chain", case=f"CPU a study, {batch} at once", ours=f"{mine:.2f} s", theirs=f"{theirs:.2f} s",
                peer=text, ratio=mine / theirs, bar="goal <= 0.5", better="lower",
            )
        )  # fmt: skip
    return rows


if __name__ == "__main__":
    from benchmarks.table import print_table

    print_table(run())
