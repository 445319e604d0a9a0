"""The commands for payloads: of the store of this host, or by the Workflow Manager and Workload Manager APIs."""

from __future__ import annotations

from airflow_monai.cli.table import ELSEWHERE, Topic, choice, flag, limit, option, positional

_PAYLOADS = Topic("payloads", "airflow_monai.cli.here.payloads")
_THERE = Topic("payloads", "airflow_monai.cli.remote.payloads")
_RESEND = Topic("payloads", "airflow_monai.cli.here.resend")
_ID = "6f1d7c1e-3a0b-5d4e-9c55-0d6f0a5b7e21"
_PAYLOAD = positional(
    "payload", "PAYLOAD", "Payload id or its first characters, run id, Study Instance UID, or accession number."
)
_PAYLOAD_THERE = positional("payload", "ID", "Of a payload.")
_PATIENT = (
    option("--patient-id", "PART", "Only those with this in the patient id (--url)."),
    option("--patient-name", "PART", "Only those with this in the patient's name (--url)."),
    option("--accession", "PART", "Only those with this in the accession number (--url)."),
)

PAYLOADS = _PAYLOADS.group(
    "What was received and what became of it.",
    "list",
    _PAYLOADS.command(
        "list",
        "List the payloads in the store, the newest first.",
        "--state unrouted --since 3d",
        choice(
            "--state",
            ("open", "closed", "waiting", "unrouted", "dataset", "started", "not-started", "deleted"),
            "Only those that are so.",
        ),
        option("--called", "AE", "Only those that were sent to this AE title."),
        option("--since", "WHEN", "Only those closed since a date or time, or for 90m, 12h, 3d."),
        *_PATIENT,
        limit(),
        *ELSEWHERE,
        function="list_all",
        description="List the payloads in the store, open ones first, then the newest. A payload is open, waiting "
        "for a run to be created, unrouted (no workflow wants it), a dataset (uploaded for jobs, without one yet), "
        "started, not-started (it was given up), or deleted. With --url, of a server: --state is for the store only, "
        "what is known of the patient for a server only.",
    ),
    _PAYLOADS.command(
        "show",
        "Show what happened to a payload or a study, from arrival to delivery.",
        _ID,
        _PAYLOAD,
        flag("--offline", "Do not ask Airflow for states of runs."),
        flag("--patient", "Of a server: print the patient too."),
        *ELSEWHERE,
        description="Show what happened to a payload: what was received and why it was closed, where it was "
        "routed and why not elsewhere, what keeps it, its runs with their tasks, and what was "
        "delivered. With --url, what a server tells of it by its id: images, workflow instances, how "
        "a deletion goes.",
    ),
    _PAYLOADS.command(
        "start",
        "Start the runs of a payload that has none, or another one.",
        f"{_ID} --workflow ct-lung --again",
        _PAYLOAD,
        option("--workflow", "NAME", "This one. Default: those that want it."),
        flag("--again", "Another run where there is one."),
        description="Start the runs that a payload should have: where no workflow wanted it, those that want it "
        "now. --workflow starts one whether it wants the payload or not. Where a run is there, "
        "nothing happens, unless --again asks for another (monai__PAYLOAD__r2).",
    ),
    _RESEND.command(
        "resend",
        "Send to a destination once more what it has accepted, and lost.",
        f"{_ID} --sink MAINPACS --reason restored",
        _PAYLOAD,
        option("--sink", "NAME", "The destination.", required=True),
        option("--task", "ID", "Only what the export task of this id delivered."),
        option("--reason", "TEXT", "Why. Airflow keeps this in its database and shows it in its UI: NAME NO PATIENT."),
        flag("--yes", "Do not ask."),
        option(
            "--key",
            "TEXT",
            "Idempotency-Key: the same text of the same person sends once, and goes on where a task "
            "was running, or no answer came (--url).",
        ),
        *ELSEWHERE,
        description="Send to a destination once more what it has accepted of a payload: the same objects under the "
        "same SOP Instance UIDs, by the export tasks that delivered them, which run again for it. Nothing is computed "
        "again, and nothing that comes after those tasks runs again. With --url, a server does so, for a payload's id. "
        "Exit code 1: a task is running now, or is not in Airflow any more.",
    ),
    _THERE.asking(
        "upload",
        "Have files arrive at a server as if they had been sent to an AE title.",
        "study/ --called CTLUNG --complete",
        positional("paths", "PATH", "File, folder or zip archive.", nargs="+"),
        option("--called", "AE", "AE title that they are for.", required=True),
        option("--calling", "AE", "AE title that they are from. Default: UPLOAD."),
        flag("--complete", "Nothing more comes: do not wait for more."),
        description="Upload files, folders and zip archives to a server, where they arrive as if they had been "
        "sent to an AE title: the workflows that listen to it run on them. To do it again does no "
        "harm. Exit code 1: a file is refused (the others are taken), or all is. 2: nothing could be "
        "done.",
    ),
    _THERE.asking(
        "download",
        "Download a payload's images from a server, as a zip archive.",
        f"{_ID} --output study.zip",
        _PAYLOAD_THERE,
        option("--output", "FILE", "Default: <ID>.zip.", default=""),
    ),
    _THERE.asking(
        "delete",
        "Have a server delete a payload: images, results, what is known of the patient.",
        f"{_ID} --reason mistake",
        _PAYLOAD_THERE,
        option("--reason", "", "Is kept; name no patient in it.", default=""),
        description="Have a server delete a payload: images, results, logs, what is known of the patient. A "
        "gateway does it some seconds later. Exit code 1: instances work on it, or it was deleted.",
    ),
)
