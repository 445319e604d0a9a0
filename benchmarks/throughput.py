"""Studies an hour: router, no-op MAP without a container, export to a folder, against three no-op worker tasks."""

from __future__ import annotations

import os
import sys
from statistics import median

from benchmarks.runs import make_payloads, run_batch, stack_with
from benchmarks.table import Row

PEER = "bench_three_noops"
CASES = {"bench-chain": "router with a condition", "bench-plain": "router without a condition"}


def run(studies: int = int(os.environ.get("BENCH_STUDIES", "100")), rounds: int = 2) -> list[Row]:
    """:param studies: in a batch; ``rounds``: batches of each DAG, in turn."""
    rates: dict[str, list[float]] = {}
    with stack_with(["bench_hand_written.py"], [f"{name}.yaml" for name in CASES]) as stack:
        for dag_id in (PEER, *CASES):
            stack.wait_for_dag(dag_id)
            run_batch(stack, dag_id, make_payloads(stack, 4))  # warm
        for _ in range(rounds):
            for dag_id in (PEER, *CASES):
                batch = run_batch(stack, dag_id, make_payloads(stack, studies))
                rates.setdefault(dag_id, []).append(batch.runs / batch.wall * 3600)
                print(f"  {dag_id}: {rates[dag_id][-1]:.0f}/h, CPU {batch.cpu / batch.runs:.2f} s", file=sys.stderr)
    theirs = median(rates[PEER])
    return [
        Row(
            benchmark="throughput", case=f"studies an hour, {text}", ours=f"{median(rates[dag_id]):.0f}",
            theirs=f"{theirs:.0f}", peer="three no-op worker tasks", ratio=median(rates[dag_id]) / theirs,
            bar=">= 0.7", better="higher",
        )
        for dag_id, text in CASES.items()
    ]  # fmt: skip


if __name__ == "__main__":
    from benchmarks.table import print_table

    print_table(run())
