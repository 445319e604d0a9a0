"""The commands for MAPs: what is registered, and which AE title and sink an application has."""

from __future__ import annotations

from airflow_monai.cli.table import DRY_RUN, ELSEWHERE, JSON, Topic, choice, flag, option, positional

_REGISTRY = Topic("maps", "airflow_monai.cli.here.maps")
_CLEANING = Topic("maps", "airflow_monai.cli.here.clean")
_MAPPING = Topic("map", "airflow_monai.cli.here.mapping")
_PULL = flag("--pull", "Let the engine get the image from its registry first.")
_LABEL = positional("map", "NAME:VERSION", "As `airflow monai maps list` shows it.")

MAPS = _REGISTRY.group(
    "MONAI Application Packages: look into them, and register them.",
    "register lung-seg:1.2.0",
    _REGISTRY.command(
        "inspect",
        "Show what an image or a folder would run, with what, and what is wrong with it.",
        "lung-seg:1.2.0 --json",
        positional(
            "map",
            "IMAGE|DIR",
            "An image that the Docker engine has, a folder with an unpacked MAP, or NAME:VERSION of a registered one.",
        ),
        _PULL,
        JSON,
        description="Show what a MAP would run and with which resources and environment, and what is wrong or "
        "doubtful with it, without starting it. Exit code 1: something keeps it from running here.",
    ),
    _REGISTRY.command(
        "register",
        "Register a MAP: its image is pinned, and it gets a workflow.",
        "registry.hospital.example/lung-seg:1.2.0 --ae-title LUNGSEG",
        positional("map", "IMAGE|DIR", "Image reference, or folder."),
        option("--name", "", "Default: of the image, without registry and tag, or of the folder."),
        option("--version", "", "Default: the image's tag where it is one, else the manifest's."),
        option("--ae-title", "AE", "Studies sent there start it. Default: by its name."),
        option(
            "--export",
            "DEST",
            "Deliver its results to this destination (an Airflow connection); may be given more than "
            "once. Default: they stay in the store.",
            action="append",
        ),
        flag("--no-gpu", "Run it without a card although it asks for one."),
        flag("--replace", "Give one that is registered already other options. Its content stays what it is."),
        _PULL,
        *ELSEWHERE,
        description="Register an image that the Docker engine has, or for the process runner a folder with an "
        "unpacked MAP. It is pinned: what is run from now on under its name and version is exactly "
        "this. It gets a workflow of one task, which a study sent to its AE title starts, or a "
        "person. On a server it is an image of that server's engine, or, with ./ before it, a folder "
        "below its map_path; exit code 1 says that it is refused, 2 that nothing could be done.",
    ),
    _REGISTRY.command(
        "list",
        "List the registered MAPs.",
        "--json",
        flag("--all", "Also those of this host that are not any more."),
        *ELSEWHERE,
        function="list_all",
    ),
    _REGISTRY.command(
        "describe",
        "Show a registered MAP: what it is, what it runs, its history.",
        "lung-seg:1.2.0",
        positional("map", "NAME[:VERSION]", "As `airflow monai maps list` shows it."),
        *ELSEWHERE,
    ),
    _REGISTRY.command(
        "unregister",
        "Take a MAP out of use: nothing starts it any more, and what runs ends normally.",
        "lung-seg:1.2.0",
        _LABEL,
        *ELSEWHERE,
    ),
    _CLEANING.command(
        "clean",
        "Remove applications that nobody follows any more, and give their cards back.",
        "--dry-run",
        choice("--runner", ("docker", "kubernetes", "process"), "Whose. Default: runner of section monai."),
        DRY_RUN,
        JSON,
        description="Remove what is left on an engine of this store's tasks: containers, pods or processes whose "
        "task is over, or that only a dead worker knew of. Whether a task is over says the store, "
        "else Airflow's database where this host has it, else the application's own time limit; one "
        "that a try of its task follows is never touched. Tasks do the same every few minutes. Exit "
        "code 1: something could not be removed.",
    ),
)
_APPLICATION = positional("application", "APP", "A registered MAP as NAME or NAME:VERSION, or a registered workflow.")

MAP = _MAPPING.group(
    "Which AE title runs an application, and where its results go.",
    "ae CTLUNG lung-seg:1.0.0",
    _MAPPING.command(
        "ae",
        "Have studies that are sent to an AE title run an application.",
        "CTLUNG lung-seg:1.0.0",
        positional("ae_title", "AE", "AE title."),
        _APPLICATION,
        JSON,
        description="Have studies that are sent to an AE title run an application, in place of the AE title that "
        "it had. A workflow that lives in a file is changed there.",
    ),
    _MAPPING.command(
        "sink",
        "Have an application's results delivered to a sink.",
        "lung-seg:1.0.0 PACS",
        _APPLICATION,
        positional("sink", "SINK", "Name of the sink."),
        flag("--remove", "Not any more."),
        JSON,
        description="Have an application's results delivered to one more sink, an Airflow connection by its id. A "
        "workflow needs one export task for it; one that lives in a file is changed there.",
    ),
)
