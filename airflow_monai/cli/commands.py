"""Which commands there are, as plain data: Airflow's parser and our own are both made from it.

A command's function is named, not imported, so that ``--help`` costs nothing of what the commands need.
"""

from __future__ import annotations

from airflow_monai.cli.groups.app_server import HANDLERS, JOBS
from airflow_monai.cli.groups.workflow_manager import CREDENTIALS, HEALTH, INSTANCES, PATIENT, PAYLOADS_ELSEWHERE, TASKS
from airflow_monai.cli.groups.workload_manager import EXPORT_TASKS, SINKS
from airflow_monai.cli.model import AT, JSON, USER, Argument, Command, Group, limit, port, positive

ENTRY = "airflow_monai.cli.entry"


_DRY_RUN = Argument(("--dry-run",), {"action": "store_true", "help": "Print what would be done and change nothing."})

_VALIDATE = Command(
    name="validate",
    help="Check workflow specs.",
    description="Check workflow specs (YAML or JSON). Exit code 0: all can be used, 1: one has an error.",
    function=f"{ENTRY}.validate",
    example="airflow monai validate workflow_specs/ --json",
    arguments=(
        Argument(("paths",), {"nargs": "+", "metavar": "PATH", "help": "Files, or folders with files."}),
        Argument(
            ("--root",),
            {
                "metavar": "FOLDER",
                "help": "Folder up to which defaults files are looked for. Default: workflow_folder of section monai "
                "for what lies below it, else the folder given or, as long as it has defaults, the one above.",
            },
        ),
        Argument(
            ("--site",),
            {
                "action": "store_true",
                "help": "Also warn of what this site lacks: cards, connections of destinations, applications.",
            },
        ),
        Argument(("--strict",), {"action": "store_true", "help": "Exit code 1 also when there are warnings only."}),
        JSON,
    ),
)

_SCHEMA = Command(
    name="schema",
    help="Print the JSON Schema of workflow files, for editors.",
    description="Print the JSON Schema of workflow files. An editor with a YAML language server completes and checks a "
    "file whose first line is '# yaml-language-server: $schema=FILE' (a path relative to the workflow file, or a "
    "file:// or https:// address); a JSON file says it in its field $schema.",
    function=f"{ENTRY}.schema",
    example="airflow monai schema --output workflow_specs/workflow.schema.json",
    arguments=(Argument(("--output",), {"metavar": "FILE", "help": "Write to this file. Default: standard output."}),),
)

_CALLED = Argument(
    ("--called",), {"metavar": "AE", "help": "AE title that the study is sent to. Default: each that is listened to."}
)
_CALLING = Argument(
    ("--calling",), {"metavar": "AE", "help": "AE title that the study comes from. Default: one that is accepted."}
)

_EXPLAIN = Command(
    name="explain",
    help="Say which workflows would run for a study, and why the others would not.",
    description="Say which workflows would run for a study, why each other one would not, and which ways their "
    "conditions would take, without running anything. It shows values of the study. Exit code 0: a workflow wants the "
    "study, 1: none does, 2: it cannot be said.",
    function=f"{ENTRY}.explain",
    example="airflow monai explain --study ./study --called CTLUNG --specs workflow_specs/",
    arguments=(
        Argument(("--study",), {"metavar": "DIR", "help": "Folder with DICOM files, of one study or several."}),
        Argument(("--payload",), {"metavar": "ID", "help": "A payload of the store, in place of a folder."}),
        _CALLED,
        _CALLING,
        Argument(
            ("--specs",),
            {"metavar": "PATH", "help": "Folder of workflows, or one file. Default: workflow_folder of section monai."},
        ),
        JSON,
    ),
)

_RUN = Command(
    name="run",
    help="Try a workflow on a folder of DICOM.",
    description="Run one workflow on a folder of DICOM without a scheduler, on a throw-away database. What it makes is "
    "in a new folder below .monai/runs; the newest five stay. Exports go to folders, e-mails to files, nothing is "
    "retried; http and argo tasks call the services that AIRFLOW_CONN_... variables name. Exit code 0: the run ended "
    "well, 1: it failed, 2: it cannot be made.",
    function=f"{ENTRY}.run",
    example="airflow monai run workflow_specs/ct-lung.yaml --study ./study --runner process --map-path examples/maps",
    arguments=(
        Argument(("spec",), {"metavar": "SPEC", "help": "Workflow file."}),
        Argument(("--study",), {"metavar": "DIR", "required": True, "help": "Folder with the DICOM files of a study."}),
        Argument(("--store",), {"metavar": "DIR", "help": "Keep payload and results in this store."}),
        Argument(("--runner",), {"choices": ("process", "docker"), "help": "What runs MAPs. Default: the site's."}),
        Argument(
            ("--map-path",),
            {
                "metavar": "DIR",
                "action": "append",
                "default": [],
                "help": "Folder of unpacked MAPs for the process runner; may be repeated. Default: the site's.",
            },
        ),
        Argument(("--called",), {"metavar": "AE", "help": "AE title that it is sent to. Default: the workflow's."}),
        Argument(("--calling",), {"metavar": "AE", "help": "AE title that it comes from. Default: one it accepts."}),
        Argument(
            ("--param",),
            {
                "metavar": "NAME=VALUE",
                "action": "append",
                "default": [],
                "help": "Value of a parameter of the workflow; may be repeated.",
            },
        ),
        Argument(
            ("--approve",), {"action": "store_true", "help": "Accept at each review. Default: ask on the terminal."}
        ),
        Argument(("--reject",), {"action": "store_true", "help": "Reject at each review."}),
        Argument(
            ("--deliver",),
            {
                "action": "store_true",
                "help": "Deliver exports to the destinations whose connections are in the environment.",
            },
        ),
        Argument(("--send-email",), {"action": "store_true", "help": "Send e-mails. Default: keep them as files."}),
        Argument(("--keep",), {"action": "store_true", "help": "Never remove this run's folder, its database too."}),
        Argument(("--state",), {"metavar": "DIR", "default": ".monai", "help": "In place of .monai."}),
        Argument(("--verbose",), {"action": "store_true", "help": "Show Airflow's log on stderr."}),
        JSON,
    ),
)

_GATEWAY = Command(
    name="gateway",
    help="Receive studies and start the workflows that want them.",
    description="Receive studies by DICOM, keep them in the store, and start the workflows that want them. "
    "Runs until it gets SIGTERM or Ctrl-C. Several may run on one store.",
    function=f"{ENTRY}.gateway",
    example="airflow monai gateway --port 11112 --events /var/log/monai/events.jsonl",
    arguments=(
        Argument(("--events",), {"metavar": "FILE", "help": "Append one JSON line for each event to this file."}),
        Argument(("--host",), {"help": "Address to listen on. Default: dicom_host of section monai."}),
        Argument(("--port",), {"type": port, "help": "Port to listen on. Default: dicom_port of section monai."}),
    ),
)

_IMPORT = Command(
    name="import",
    help="Put DICOM files of this host into the store.",
    description="Put DICOM files of this host into the store, as if they had been sent to an AE title: no gateway "
    "needs to run for that. Of a folder or a zip archive all images are taken, other files passed over. A gateway that "
    "runs on the store, or the next that does, starts the workflows; --announce does it here. To do it again does no "
    "harm. Exit code 0: all is in, 1: a file was refused, or a run that was waited for is not there, 2: nothing is in.",
    function=f"{ENTRY}.import_files",
    example="airflow monai import ./study --called CTLUNG --announce",
    arguments=(
        Argument(("paths",), {"nargs": "+", "metavar": "PATH", "help": "Folders, zip archives, or files."}),
        Argument(("--called",), {"metavar": "AE", "required": True, "help": "AE title that they are for."}),
        Argument(
            ("--calling",),
            {"metavar": "AE", "help": "AE title that they are from. Default: inbox_calling_aet of section monai."},
        ),
        Argument(
            ("--announce",),
            {"action": "store_true", "help": "Close the studies and create their runs from here, by Airflow's API."},
        ),
        Argument(("--wait",), {"action": "store_true", "help": "Wait until a gateway has created their runs."}),
        Argument(
            ("--timeout",),
            {"metavar": "MINUTES", "type": positive, "default": 10, "help": "How long to wait. Default: 10."},
        ),
        JSON,
    ),
)

_SEND = Command(
    name="send",
    help="Send DICOM files of this host to a DICOM node.",
    description="Send DICOM files of this host to a DICOM node by C-STORE, with a verdict on each. What the node has "
    "accepted is kept in a file below .monai/sent, so that the same command sends only what is missing. Exit code 0: "
    "the node has accepted all, 1: not all, 2: the command or the folder cannot be used.",
    function=f"{ENTRY}.send",
    example="airflow monai send ./study --to pacs.example.org:11112 --called PACS --calling MONAI",
    arguments=(
        Argument(("paths",), {"nargs": "+", "metavar": "PATH", "help": "Folders or files."}),
        Argument(("--to",), {"metavar": "HOST:PORT", "required": True, "help": "The node."}),
        Argument(("--called",), {"metavar": "AE", "required": True, "help": "Its AE title."}),
        Argument(("--calling",), {"metavar": "AE", "default": "MONAI", "help": "Our AE title. Default: MONAI."}),
        Argument(("--tls",), {"action": "store_true", "help": "Speak TLS."}),
        Argument(("--ca-file",), {"metavar": "PEM", "help": "Authorities to trust, in place of the system's."}),
        Argument(("--cert-file",), {"metavar": "PEM", "help": "Our certificate, where the node wants one."}),
        Argument(("--key-file",), {"metavar": "PEM", "help": "Its key, where it is in a file of its own."}),
        Argument(("--no-check",), {"action": "store_true", "help": "Do not check the node's certificate."}),
        Argument(
            ("--associations",),
            {"metavar": "N", "type": positive, "default": 1, "help": "Associations at a time. Default: 1."},
        ),
        Argument(
            ("--as-is",), {"action": "store_true", "help": "Do not offer plain little endian for what is not taken."}
        ),
        Argument(("--max-mb-per-second",), {"metavar": "MB", "type": float, "help": "Send no faster than this."}),
        Argument(
            ("--timeout",),
            {
                "metavar": "SECONDS",
                "type": positive,
                "default": 30,
                "help": "A node that does nothing for so long counts as hanging. Default: 30.",
            },
        ),
        Argument(
            ("--tries",),
            {"metavar": "N", "type": positive, "default": 3, "help": "How often to call a node. Default: 3."},
        ),
        Argument(("--ledger",), {"metavar": "FILE", "help": "In place of the one below .monai/sent."}),
        Argument(("--again",), {"action": "store_true", "help": "Send also what was accepted before."}),
        JSON,
    ),
)

_POOLS = Group(
    name="pools",
    help="GPU cards and their pools.",
    example="airflow monai pools sync --detect",
    commands=(
        Command(
            name="sync",
            help="Make the pools of the GPU inventory.",
            description="Create or update one pool for each class of cards (a slot is 1 GiB of card memory), and keep "
            "the inventory in the store, where workflows are checked against it. Tasks that have not ended and that "
            "the new pools have no room for are named, and then nothing is changed (exit code 1). An inventory file: "
            "'hosts: {gpu01: [{model: NVIDIA A100, memory: 40 GiB, count: 2}]}'; slices of a card have 'mig: 1g.10gb' "
            "besides, 'class: NAME' names the class where the model does not do, and 'ids' are what the driver calls "
            "the cards.",
            function=f"{ENTRY}.pools_sync",
            example="airflow monai pools sync --detect --dry-run",
            arguments=(
                Argument(
                    ("--inventory",),
                    {
                        "metavar": "FILE",
                        "action": "append",
                        "default": [],
                        "help": "YAML or JSON file of hosts and cards; several files are together the whole inventory. "
                        "Default: the store's inventory.",
                    },
                ),
                Argument(
                    ("--detect",),
                    {"action": "store_true", "help": "Put the cards of this host, as its driver shows them, into it."},
                ),
                Argument(
                    ("--kubernetes",),
                    {
                        "action": "store_true",
                        "help": "Put the cards of the cluster's nodes into it, in place of all nodes that are there.",
                    },
                ),
                Argument(
                    ("--force",),
                    {"action": "store_true", "help": "Also when tasks that have not ended could then never start."},
                ),
                _DRY_RUN,
            ),
        ),
        Command(
            name="show",
            help="Show the cards, who has those of this host, and who waits for one.",
            function=f"{ENTRY}.pools_show",
            example="airflow monai pools show --json",
            arguments=(JSON,),
        ),
        Command(
            name="detect",
            help="Print the cards of this host as an inventory file.",
            description="Print the cards of this host as an inventory file, for a host from which Airflow's database "
            "cannot be reached: 'pools sync --inventory' takes one such file for each host.",
            function=f"{ENTRY}.pools_detect",
            example="airflow monai pools detect",
        ),
        Command(
            name="release",
            help="Take a card back from a job whose worker is dead.",
            description="Take a card back from a job whose worker is dead, where it does not come free by itself: its "
            "container was made and never started, or is on an engine that is no more. A job that may still run keeps "
            "its card, unless --force says otherwise.",
            function=f"{ENTRY}.pools_release",
            example="airflow monai pools release monai-segment-0123456789abcdef",
            arguments=(
                Argument(("job",), {"metavar": "JOB", "help": "As 'pools show' names it."}),
                Argument(
                    ("--force",),
                    {"action": "store_true", "help": "Do not ask its engine whether the job is gone. Be sure of it."},
                ),
            ),
        ),
    ),
)

_PAYLOAD = {
    "metavar": "PAYLOAD",
    "help": "Payload id or its first characters, run id, Study Instance UID, or accession number.",
}

_PAYLOADS = Group(
    name="payloads",
    help="What was received and what became of it.",
    example="airflow monai payloads list",
    commands=(
        Command(
            name="list",
            help="List the payloads in the store, the newest first.",
            description="List the payloads in the store, open ones first, then the newest. A payload is open, waiting "
            "for a run to be created, unrouted (no workflow wants it), started, not-started (it was given up), or "
            "deleted. With --url, of a server: --state is for the store only, what is known of the patient for a "
            "server only.",
            function=f"{ENTRY}.payloads_list",
            example="airflow monai payloads list --state unrouted --since 3d",
            arguments=(
                Argument(
                    ("--state",),
                    {
                        "choices": ("open", "closed", "waiting", "unrouted", "started", "not-started", "deleted"),
                        "help": "Only those that are so.",
                    },
                ),
                Argument(("--called",), {"metavar": "AE", "help": "Only those that were sent to this AE title."}),
                Argument(
                    ("--since",),
                    {"metavar": "WHEN", "help": "Only those closed since a date or time, or for 90m, 12h, 3d."},
                ),
                *PATIENT,
                limit(),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="show",
            help="Show what happened to a payload or a study, from arrival to delivery.",
            description="Show what happened to a payload: what was received and why it was closed, where it was routed "
            "and why not elsewhere, what keeps it, its runs with their tasks, and what was delivered. With --url, what "
            "a server tells of it by its id: images, workflow instances, how a deletion goes.",
            function=f"{ENTRY}.payloads_show",
            example="airflow monai payloads show 6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21",
            arguments=(
                Argument(("payload",), _PAYLOAD),
                Argument(("--offline",), {"action": "store_true", "help": "Do not ask Airflow for states of runs."}),
                Argument(("--patient",), {"action": "store_true", "help": "Of a server: print the patient too."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="start",
            help="Start the runs of a payload that has none, or another one.",
            description="Start the runs that a payload should have: where no workflow wanted it, those that want it "
            "now. --workflow starts one whether it wants the payload or not. Where a run is there, nothing happens, "
            "unless --again asks for another (monai__PAYLOAD__r2).",
            function=f"{ENTRY}.payloads_start",
            example="airflow monai payloads start 6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21 --workflow ct-lung --again",
            arguments=(
                Argument(("payload",), _PAYLOAD),
                Argument(("--workflow",), {"metavar": "NAME", "help": "This one. Default: those that want it."}),
                Argument(("--again",), {"action": "store_true", "help": "Another run where there is one."}),
            ),
        ),
        *PAYLOADS_ELSEWHERE,
    ),
)

_CHANNEL = Argument(("channel",), {"metavar": "CHANNEL", "help": "'broker', or a handler's id, as the list shows it."})

_EVENTS = Group(
    name="events",
    help="Who is told what happens to workflow instances, and what waits to be told.",
    example="airflow monai events list",
    commands=(
        Command(
            name="list",
            help="List who is told: notification handlers and the broker, how they are, and why they fail.",
            function=f"{ENTRY}.events_list",
            example="airflow monai events list",
            arguments=(JSON,),
        ),
        Command(
            name="show",
            help="Show what was given up, what waits and why, and what is to be told next.",
            function=f"{ENTRY}.events_show",
            example="airflow monai events show broker",
            arguments=(_CHANNEL, JSON),
        ),
        Command(
            name="retry",
            help="Have events that were given up told all the same.",
            description="Have events that were given up told all the same, by the gateway that tells. Exit code 1: "
            "there are none.",
            function=f"{ENTRY}.events_retry",
            example="airflow monai events retry broker",
            arguments=(
                _CHANNEL,
                Argument(("events",), {"nargs": "*", "metavar": "EVENT", "help": "These. Default: all."}),
            ),
        ),
    ),
)

_BATCH = Command(
    name="batch",
    help="Tell which payloads the next batch of a workflow would take.",
    description="Tell which payloads of the store the schedule of a workflow would take now, and why not the others. "
    "Nothing is started: for that, trigger the DAG <workflow>.batch.",
    function=f"{ENTRY}.batch",
    example="airflow monai batch bone-age --json",
    arguments=(Argument(("workflow",), {"metavar": "WORKFLOW", "help": "Name of a workflow with a schedule."}), JSON),
)

_PULL = Argument(("--pull",), {"action": "store_true", "help": "Let the engine get the image from its registry first."})
_MAP_LABEL = {"metavar": "NAME:VERSION", "help": "As `airflow monai maps list` shows it."}

_APPLICATION = Argument(
    ("application",), {"metavar": "APP", "help": "A registered MAP as NAME or NAME:VERSION, or a registered workflow."}
)

_MAP = Group(
    name="map",
    help="Which AE title runs an application, and where its results go.",
    example="airflow monai map ae CTLUNG lung-seg:1.0.0",
    commands=(
        Command(
            name="ae",
            help="Have studies that are sent to an AE title run an application.",
            description="Have studies that are sent to an AE title run an application, in place of the AE title that "
            "it had. A workflow that lives in a file is changed there.",
            function=f"{ENTRY}.map_ae",
            example="airflow monai map ae CTLUNG lung-seg:1.0.0",
            arguments=(Argument(("ae_title",), {"metavar": "AE", "help": "AE title."}), _APPLICATION, JSON),
        ),
        Command(
            name="sink",
            help="Have an application's results delivered to a sink.",
            description="Have an application's results delivered to one more sink, an Airflow connection by its id. A "
            "workflow needs one export task for it; one that lives in a file is changed there.",
            function=f"{ENTRY}.map_sink",
            example="airflow monai map sink lung-seg:1.0.0 PACS",
            arguments=(
                _APPLICATION,
                Argument(("sink",), {"metavar": "SINK", "help": "Name of the sink."}),
                Argument(("--remove",), {"action": "store_true", "help": "Not any more."}),
                JSON,
            ),
        ),
    ),
)

_ARGO_CONNECTION = Argument(
    ("--conn-id",),
    {
        "metavar": "ID",
        "default": "argo_default",
        "help": "Airflow connection of the Argo Server. Default: argo_default.",
    },
)
_ARGO_NAME = Argument(("name",), {"metavar": "NAME", "help": "Of the execution, as 'launch' prints it."})

_ARGO = Group(
    name="argo",
    help="WorkflowTemplates of an Argo cluster.",
    example="airflow monai argo register template.yaml",
    commands=(
        Command(
            name="register",
            help="Register a WorkflowTemplate.",
            description="Check a WorkflowTemplate (YAML or JSON) and give it to the Argo Server, in place of the one "
            "of its name. Tasks of type argo name it in args.template.",
            function=f"{ENTRY}.argo_register",
            example="airflow monai argo register template.yaml",
            arguments=(
                Argument(("file",), {"metavar": "FILE", "help": "The template; - for standard input."}),
                _ARGO_CONNECTION,
                JSON,
            ),
        ),
        Command(
            name="delete",
            help="Delete a WorkflowTemplate.",
            function=f"{ENTRY}.argo_delete",
            example="airflow monai argo delete segment",
            arguments=(
                Argument(("template",), {"metavar": "NAME|FILE", "help": "Its name, or the file that has it."}),
                _ARGO_CONNECTION,
                JSON,
            ),
        ),
        Command(
            name="launch",
            help="Start a WorkflowTemplate by hand, to try it.",
            function=f"{ENTRY}.argo_launch",
            example="airflow monai argo launch segment --param input=/data/in --wait",
            arguments=(
                Argument(("template",), {"metavar": "NAME", "help": "Of the template."}),
                Argument(
                    ("--param",),
                    {
                        "metavar": "NAME=VALUE",
                        "action": "append",
                        "default": [],
                        "help": "A parameter of the workflow; several times for several.",
                    },
                ),
                Argument(
                    ("--name",),
                    {"metavar": "NAME", "default": "", "help": "Of the execution. Default: a new one."},
                ),
                Argument(
                    ("--wait",), {"action": "store_true", "help": "Until it has ended; exit code 1 if it failed."}
                ),
                _ARGO_CONNECTION,
                JSON,
            ),
        ),
        Command(
            name="status",
            help="Say how an execution is.",
            function=f"{ENTRY}.argo_status",
            example="airflow monai argo status monai-by-hand-0123456789ab",
            arguments=(_ARGO_NAME, _ARGO_CONNECTION, JSON),
        ),
        Command(
            name="cancel",
            help="End an execution.",
            function=f"{ENTRY}.argo_cancel",
            example="airflow monai argo cancel monai-by-hand-0123456789ab",
            arguments=(_ARGO_NAME, _ARGO_CONNECTION, JSON),
        ),
    ),
)

_ELSEWHERE = (
    Argument(
        ("--url",),
        {"metavar": "URL", "help": "Of an Airflow elsewhere. Default: MONAI_URL; without one, this host's store."},
    ),
    USER,
    JSON,
)

_MAPS = Group(
    name="maps",
    help="MONAI Application Packages: look into them, and register them.",
    example="airflow monai maps register lung-seg:1.2.0",
    commands=(
        Command(
            name="inspect",
            help="Show what an image or a folder would run, with what, and what is wrong with it.",
            description="Show what a MAP would run and with which resources and environment, and what is wrong or "
            "doubtful with it, without starting it. Exit code 1: something keeps it from running here.",
            function=f"{ENTRY}.maps_inspect",
            example="airflow monai maps inspect lung-seg:1.2.0 --json",
            arguments=(
                Argument(
                    ("map",),
                    {
                        "metavar": "IMAGE|DIR",
                        "help": "An image that the Docker engine has, a folder with an unpacked MAP, or NAME:VERSION "
                        "of a registered one.",
                    },
                ),
                _PULL,
                JSON,
            ),
        ),
        Command(
            name="register",
            help="Register a MAP: its image is pinned, and it gets a workflow.",
            description="Register an image that the Docker engine has, or for the process runner a folder with an "
            "unpacked MAP. It is pinned: what is run from now on under its name and version is exactly this. It gets a "
            "workflow of one task, which a study sent to its AE title starts, or a person. On a server it is an image "
            "of that server's engine, or, with ./ before it, a folder below its map_path; exit code 1 says that it is "
            "refused, 2 that nothing could be done.",
            function=f"{ENTRY}.maps_register",
            example="airflow monai maps register registry.hospital.example/lung-seg:1.2.0 --ae-title LUNGSEG",
            arguments=(
                Argument(("map",), {"metavar": "IMAGE|DIR", "help": "Image reference, or folder."}),
                Argument(("--name",), {"help": "Default: of the image, without registry and tag, or of the folder."}),
                Argument(("--version",), {"help": "Default: the image's tag where it is one, else the manifest's."}),
                Argument(
                    ("--ae-title",), {"metavar": "AE", "help": "Studies sent there start it. Default: by its name."}
                ),
                Argument(
                    ("--export",),
                    {
                        "metavar": "DEST",
                        "action": "append",
                        "help": "Deliver its results to this destination (an Airflow connection); may be given more "
                        "than once. Default: they stay in the store.",
                    },
                ),
                Argument(
                    ("--no-gpu",), {"action": "store_true", "help": "Run it without a card although it asks for one."}
                ),
                Argument(
                    ("--replace",),
                    {
                        "action": "store_true",
                        "help": "Give one that is registered already other options. Its content stays what it is.",
                    },
                ),
                _PULL,
                *_ELSEWHERE,
            ),
        ),
        Command(
            name="list",
            help="List the registered MAPs.",
            function=f"{ENTRY}.maps_list",
            example="airflow monai maps list --json",
            arguments=(
                Argument(
                    ("--all",), {"action": "store_true", "help": "Also those of this host that are not any more."}
                ),
                *_ELSEWHERE,
            ),
        ),
        Command(
            name="describe",
            help="Show a registered MAP: what it is, what it runs, its history.",
            function=f"{ENTRY}.maps_describe",
            example="airflow monai maps describe lung-seg:1.2.0",
            arguments=(
                Argument(("map",), {"metavar": "NAME[:VERSION]", "help": "As `airflow monai maps list` shows it."}),
                *_ELSEWHERE,
            ),
        ),
        Command(
            name="unregister",
            help="Take a MAP out of use: nothing starts it any more, and what runs ends normally.",
            function=f"{ENTRY}.maps_unregister",
            example="airflow monai maps unregister lung-seg:1.2.0",
            arguments=(Argument(("map",), _MAP_LABEL), *_ELSEWHERE),
        ),
        Command(
            name="clean",
            help="Remove applications that nobody follows any more, and give their cards back.",
            description="Remove what is left on an engine of this store's tasks: containers, pods or processes whose "
            "task is over, or that only a dead worker knew of. Whether a task is over says the store, else Airflow's "
            "database where this host has it, else the application's own time limit; one that a try of its task "
            "follows is never touched. Tasks do the same every few minutes. Exit code 1: something could not be "
            "removed.",
            function=f"{ENTRY}.maps_clean",
            example="airflow monai maps clean --dry-run",
            arguments=(
                Argument(
                    ("--runner",),
                    {
                        "choices": ("docker", "kubernetes", "process"),
                        "help": "Whose. Default: runner of section monai.",
                    },
                ),
                _DRY_RUN,
                JSON,
            ),
        ),
    ),
)

_WORKFLOW = Argument(("workflow",), {"metavar": "NAME|ID", "help": "As `airflow monai workflows list` shows it."})
_DEFINITION = Argument(("file",), {"metavar": "FILE", "help": "YAML or JSON; - reads standard input."})

_WORKFLOWS = Group(
    name="workflows",
    help="Registered workflows: those that are in no file of the site.",
    example="airflow monai workflows register ct-lung.yaml",
    commands=(
        Command(
            name="register",
            help="Register a workflow.",
            description="Register a workflow: it is a DAG some seconds later. Exit code 1: it is refused, 2: nothing "
            "could be done.",
            function=f"{ENTRY}.workflows_register",
            example="airflow monai workflows register ct-lung.yaml --url https://airflow.hospital.example",
            arguments=(_DEFINITION, *_ELSEWHERE),
        ),
        Command(
            name="update",
            help="Make a new revision of a registered workflow.",
            description="Make a new revision of a registered workflow. The file may name some of its attributes only: "
            "the others stay. Runs under way go on as they began. Exit codes as for register.",
            function=f"{ENTRY}.workflows_update",
            example="airflow monai workflows update ct-lung ct-lung.yaml",
            arguments=(_WORKFLOW, _DEFINITION, *_ELSEWHERE),
        ),
        Command(
            name="delete",
            help="Have nothing start a registered workflow any more; what runs ends normally.",
            function=f"{ENTRY}.workflows_delete",
            example="airflow monai workflows delete ct-lung",
            arguments=(_WORKFLOW, *_ELSEWHERE),
        ),
        Command(
            name="list",
            help="List all workflows: registered ones, those in files, those of MAPs.",
            function=f"{ENTRY}.workflows_list",
            example="airflow monai workflows list --json",
            arguments=_ELSEWHERE,
        ),
        Command(
            name="show",
            help="Show a workflow's definition and its revisions.",
            function=f"{ENTRY}.workflows_show",
            example="airflow monai workflows show ct-lung",
            arguments=(_WORKFLOW, *_ELSEWHERE),
        ),
        Command(
            name="validate",
            help="Check whether definitions could be registered.",
            description="Check whether definitions could be registered beside what there is. Exit code 1: one could "
            "not, 2: it cannot be said. `airflow monai validate` checks files without asking what there is.",
            function=f"{ENTRY}.workflows_validate",
            example="airflow monai workflows validate ct-lung.yaml",
            arguments=(Argument(("files",), {"nargs": "+", "metavar": "FILE", "help": "YAML or JSON."}), *_ELSEWHERE),
        ),
    ),
)

_DATASETS_ENTRY = "airflow_monai.cli.datasets_entry"
_DATASET = Argument(("dataset",), {"metavar": "ID", "help": "Of a dataset, or of any payload."})

_DATASETS = Group(
    name="datasets",
    help="Datasets of an Airflow, which jobs of the App Server API run on.",
    example="airflow monai datasets upload study/ --name phantom",
    commands=(
        Command(
            name="upload",
            help="Upload files, folders and zip archives as one dataset.",
            description="Upload files, folders and zip archives as one dataset. The same files are one dataset however "
            "often they are uploaded. Exit code 1: it is refused, 2: nothing could be done.",
            function=f"{_DATASETS_ENTRY}.upload",
            example="airflow monai datasets upload study/ --name phantom --url http://localhost:8080",
            arguments=(
                Argument(("paths",), {"nargs": "+", "metavar": "PATH", "help": "File, folder or zip archive."}),
                Argument(("--name",), {"default": "", "help": "For people; name no patient in it."}),
                Argument(
                    ("--partial",), {"action": "store_true", "help": "Take the good files where some are refused."}
                ),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="list",
            help="List the datasets that were uploaded, the newest first.",
            function=f"{_DATASETS_ENTRY}.list_all",
            example="airflow monai datasets list --json",
            arguments=(*AT, JSON),
        ),
        Command(
            name="describe",
            help="Describe a dataset, and the MAPs that it is associated with.",
            function=f"{_DATASETS_ENTRY}.describe",
            example="airflow monai datasets describe 0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11",
            arguments=(
                _DATASET,
                Argument(("--patient",), {"action": "store_true", "help": "The patient too; that is noted there."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="download",
            help="Download a dataset as a zip archive.",
            function=f"{_DATASETS_ENTRY}.download",
            example="airflow monai datasets download 0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11 --output study.zip",
            arguments=(
                _DATASET,
                Argument(("--output",), {"default": "", "metavar": "FILE", "help": "Default: <ID>.zip."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="delete",
            help="Delete a dataset that no job is at work on.",
            function=f"{_DATASETS_ENTRY}.delete",
            example="airflow monai datasets delete 0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11",
            arguments=(
                _DATASET,
                Argument(("--with-results",), {"action": "store_true", "help": "Also when jobs have left results."}),
                *AT,
                JSON,
            ),
        ),
        Command(
            name="associate",
            help="Associate a dataset with MAPs that are to work on it.",
            function=f"{_DATASETS_ENTRY}.associate",
            example="airflow monai datasets associate 0c5b3f9e-6f0f-5f0e-8f57-2f1f8e6f1b11 lung-seg:1.2.0",
            arguments=(
                _DATASET,
                Argument(("maps",), {"nargs": "+", "metavar": "MAP", "help": "Registered, as name:version."}),
                Argument(("--undo",), {"action": "store_true", "help": "Undo it."}),
                *AT,
                JSON,
            ),
        ),
    ),
)

MONAI = Group(
    name="monai",
    help="Clinical imaging-AI workflows.",
    example="airflow monai validate workflow_specs/",
    commands=(
        _VALIDATE,
        _SCHEMA,
        _EXPLAIN,
        _RUN,
        _GATEWAY,
        _IMPORT,
        _SEND,
        _POOLS,
        _PAYLOADS,
        _EVENTS,
        _MAPS,
        _MAP,
        _WORKFLOWS,
        _DATASETS,
        JOBS,
        HANDLERS,
        INSTANCES,
        TASKS,
        HEALTH,
        CREDENTIALS,
        SINKS,
        EXPORT_TASKS,
        _ARGO,
        _BATCH,
    ),
)
