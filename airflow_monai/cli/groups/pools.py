"""The commands for cards and their pools."""

from __future__ import annotations

from airflow_monai.cli.table import DRY_RUN, JSON, Topic, flag, option, positional

_SYNC = Topic("pools", "airflow_monai.cli.here.pools")
_CARDS = Topic("pools", "airflow_monai.cli.here.cards")

POOLS = _CARDS.group(
    "GPU cards and their pools.",
    "sync --detect",
    _SYNC.command(
        "sync",
        "Make the pools of the GPU inventory.",
        "--detect --dry-run",
        option(
            "--inventory",
            "FILE",
            "YAML or JSON file of hosts and cards; several files are together the whole inventory. "
            "Default: the store's inventory.",
            default=[],
            action="append",
        ),
        flag("--detect", "Put the cards of this host, as its driver shows them, into it."),
        flag("--kubernetes", "Put the cards of the cluster's nodes into it, in place of all nodes that are there."),
        flag("--force", "Also when tasks that have not ended could then never start."),
        DRY_RUN,
        description="Create or update one pool for each class of cards (a slot is 1 GiB of card memory), and keep "
        "the inventory in the store, where workflows are checked against it. Tasks that have not "
        "ended and that the new pools have no room for are named, and then nothing is changed (exit "
        "code 1). An inventory file: 'hosts: {gpu01: [{model: NVIDIA A100, memory: 40 GiB, count: "
        "2}]}'; slices of a card have 'mig: 1g.10gb' besides, 'class: NAME' names the class where the "
        "model does not do, and 'ids' are what the driver calls the cards.",
    ),
    _CARDS.command("show", "Show the cards, who has those of this host, and who waits for one.", "--json", JSON),
    _CARDS.command(
        "detect",
        "Print the cards of this host as an inventory file.",
        "",
        description="Print the cards of this host as an inventory file, for a host from which Airflow's database "
        "cannot be reached: 'pools sync --inventory' takes one such file for each host.",
    ),
    _CARDS.command(
        "release",
        "Take a card back from a job whose worker is dead.",
        "monai-segment-0123456789abcdef",
        positional("job", "JOB", "As 'pools show' names it."),
        flag("--force", "Do not ask its engine whether the job is gone. Be sure of it."),
        description="Take a card back from a job whose worker is dead, where it does not come free by itself: its "
        "container was made and never started, or is on an engine that is no more. A job that may "
        "still run keeps its card, unless --force says otherwise.",
    ),
)
