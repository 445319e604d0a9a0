"""The functions behind the commands: each takes the parsed arguments, does its work and ends the process.

What a command needs is imported inside its function, so that one command never pays for another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, NoReturn

from airflow_monai.errors import MonaiError

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_monai.cli.workflows import Workflows
    from airflow_monai.store.base import Store


def _ends(function: Callable[[Namespace], int], *, refused: int = 1) -> Callable[[Namespace], NoReturn]:
    """Exit with the function's code; an error of ours becomes one line on stderr and the exit code ``refused``."""

    @wraps(function)
    def command(args: Namespace) -> NoReturn:
        try:
            code = function(args)
            sys.stdout.flush()
        except MonaiError as error:
            print(f"error: {error}", file=sys.stderr)
            code = refused
        except BrokenPipeError:  # the reader (head, less) has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        sys.exit(code)

    return command


def is_elsewhere(args: Namespace) -> bool:
    """Whether a server is asked, and not this host's store."""
    return bool(args.url or os.environ.get("MONAI_URL"))


@_ends
def validate(args: Namespace) -> int:
    from airflow_monai.cli import validate as command

    against = None
    if args.site:
        from airflow_monai.cli.site import this_site

        against = this_site()
    roots = {"root": args.root, "site": _known_workflow_folder()}
    return command.run(args.paths, args.json, sys.stdout, **roots, against=against, strict=args.strict)


@_ends
def schema(args: Namespace) -> int:
    from airflow_monai.cli import schema as command

    return command.run(args.output, sys.stdout)


@partial(_ends, refused=2)
def explain(args: Namespace) -> int:
    from pathlib import Path

    from airflow_monai.cli import explain as command

    if bool(args.study) == bool(args.payload):
        raise MonaiError("Say what is to be explained: --study DIR, or --payload ID.")
    specs = Path(args.specs or _workflow_folder())
    question = command.Question.of(args.called, args.calling)
    from airflow_monai.workflows.site import SiteWorkflows

    store = _store() if args.payload or not args.specs else None
    registered = SiteWorkflows(store).files if store and not args.specs else None
    if args.study or store is None:
        return command.run(Path(args.study), specs, question, args.json, sys.stdout, registered)
    from airflow_monai.store.payloads import load_payload, load_series_tags

    payload, tags = load_payload(store, args.payload), load_series_tags(store, args.payload)
    return command.run_payload(payload, tags, specs, question, args.json, sys.stdout, registered)


@partial(_ends, refused=2)
def run(args: Namespace) -> int:
    from pathlib import Path

    from airflow_monai.local.trial.options import TrialOptions, given_params
    from airflow_monai.local.trial.trial import run as trial

    if args.approve and args.reject:
        raise MonaiError("Say --approve or --reject, not both.")
    options = TrialOptions(
        spec=Path(args.spec),
        study=Path(args.study),
        store=Path(args.store) if args.store else None,
        runner=args.runner,
        map_path=tuple(map(Path, args.map_path)),
        called=args.called,
        calling=args.calling,
        params=given_params(args.param),
        approve=args.approve or (False if args.reject else None),
        deliver=args.deliver,
        send_email=args.send_email,
        keep=args.keep,
        as_json=args.json,
        verbose=args.verbose,
        state=Path(args.state),
    )
    return trial(options)


@_ends
def gateway(args: Namespace) -> int:
    from airflow_monai.cli import gateway as command

    return command.gateway(args)


@partial(_ends, refused=2)
def import_files(args: Namespace) -> int:
    from pathlib import Path

    from airflow_monai.cli import imports as command
    from airflow_monai.gateway import configured
    from airflow_monai.gateway.intake_here import IntakeHere

    options = command.ImportOptions(
        paths=tuple(map(Path, args.paths)),
        called_aet=args.called,
        calling_aet=args.calling or configured.load().calling_aet,
        wait_seconds=60.0 * args.timeout if args.wait or args.announce else None,
        as_json=args.json,
    )
    with IntakeHere(_store()) as here:
        if problem := here.unheard(options.called_aet):
            _warn(problem)
        announce = here.see_through if args.announce else None
        return command.run(here.depositor, options, sys.stdout, sys.stderr, announce)


@partial(_ends, refused=2)
def send(args: Namespace) -> int:
    from pathlib import Path

    from airflow_monai.cli import send as command
    from airflow_monai.sinks.dicom import DicomSink

    extra = {
        "tls": args.tls,
        "ca_file": args.ca_file,
        "cert_file": args.cert_file,
        "key_file": args.key_file,
        "check_certificate": "false" if args.no_check else "",
        "associations": args.associations,
        "response_timeout": args.timeout,
        "max_mb_per_second": args.max_mb_per_second,
        "convert": "false" if args.as_is else "",
    }
    destination = command.destination_of(args.to, args.called, args.calling, extra)
    options = command.SendOptions(
        paths=tuple(map(Path, args.paths)),
        destination=destination,
        ledger=Path(args.ledger) if args.ledger else None,
        again=args.again,
        tries=args.tries,
        as_json=args.json,
    )
    return command.run(DicomSink(destination), options, sys.stdout, sys.stderr)


@_ends
def pools_sync(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import pools as command
    from airflow_monai.gpu.sources import Sources

    detected = nodes = None
    if args.detect:
        from airflow_monai.gpu.detect import detect

        detected = detect(_warn)
    if args.kubernetes:
        from airflow_monai.gpu.kubernetes import hosts_of, read_nodes
        from airflow_monai.maps.runners.kubernetes import settings as kubernetes_settings
        from airflow_monai.maps.runners.kubernetes.cluster import Cluster

        nodes = hosts_of(read_nodes(Cluster(kubernetes_settings.load(settings.load().image_pull).conn_id).api))
    sources = Sources(args.inventory, detected, nodes, settings.load().gpu_host)
    return command.run(_store(), sources, command.Manner(args.dry_run, args.force), sys.stdout)


@_ends
def pools_show(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import cards as command

    return command.run_show(_store(), settings.load(), args.json, sys.stdout)


@_ends
def pools_detect(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import cards as command

    return command.run_detect(settings.load(), sys.stdout, _warn)


@_ends
def pools_release(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import cards as command
    from airflow_monai.operators.cards import is_used

    return command.run_release(settings.load(), args.job, sys.stdout, force=args.force, is_used=is_used)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


@_ends
def events_list(args: Namespace) -> int:
    from airflow_monai.cli import events as command

    return command.run_list(_store(), args.json, sys.stdout)


@_ends
def events_show(args: Namespace) -> int:
    from airflow_monai.cli import events as command

    return command.run_show(_store(), args.channel, args.json, sys.stdout)


@_ends
def events_retry(args: Namespace) -> int:
    from airflow_monai.cli import events as command

    return command.run_retry(_store(), args.channel, args.events, sys.stdout)


@_ends
def payloads_list(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import payloads as there

        there.list_all(args)
    from airflow_monai.cli import payloads as command
    from airflow_monai.cli.moments import moment

    if args.patient_id or args.patient_name or args.accession:
        raise MonaiError("Only a server looks for payloads by what is known of the patient: say --url.")
    wanted = command.PayloadFilter(
        args.state or "", (args.called or "").strip(" "), moment(args.since) if args.since else ""
    )
    return command.run_list(_store(), args.limit, args.json, sys.stdout, wanted)


@_ends
def payloads_show(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import payloads as there

        there.show(args)
    from airflow_monai.cli import payloads as command

    state = None if args.offline else _run_state
    return command.run_show(_store(), args.payload, args.json, sys.stdout, state)


def _run_state(dag_id: str, run_id: str) -> str:
    """What Airflow says of a run."""
    from airflow_monai import settings
    from airflow_monai.hooks.airflow_api import AirflowApi, RunNotCreated

    try:
        return AirflowApi(settings.load().api_conn_id).run_state(dag_id, run_id) or "not in Airflow any more"
    except RunNotCreated as error:
        return f"state unknown: {error}"


@_ends
def payloads_start(args: Namespace) -> int:
    from airflow_monai.cli import payloads as command
    from airflow_monai.gateway.intake_here import IntakeHere

    store = _store()
    with IntakeHere(store) as here:
        return command.run_start(store, args.payload, here.starter(), args.workflow or "", args.again, sys.stdout)


@_ends
def batch(args: Namespace) -> int:
    from airflow_monai.cli import batch as command

    return command.run(_store(), _workflow_folder(), args.workflow, args.json, sys.stdout)


@_ends
def maps_inspect(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import maps as command

    return command.run_inspect(settings.load(), args.map, args.json, sys.stdout, pull=args.pull)


@_ends
def maps_register(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import maps as there

        there.register(args)
    from airflow_monai import settings
    from airflow_monai.cli import maps as command
    from airflow_monai.maps.registration import Wanted

    wanted = Wanted(
        name=args.name,
        version=args.version,
        ae_title=args.ae_title,
        export_destinations=tuple(args.export) if args.export else None,
        use_gpu=False if args.no_gpu else None,
        replace=args.replace,
    )
    return command.run_register(settings.load(), args.map, wanted, args.json, sys.stdout, pull=args.pull)


@_ends
def maps_list(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import maps as there

        there.list_all(args)
    from airflow_monai import settings
    from airflow_monai.cli import maps as command

    return command.run_list(settings.load(), args.all, args.json, sys.stdout)


@_ends
def maps_describe(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import maps as there

        there.describe(args)
    from airflow_monai import settings
    from airflow_monai.cli import maps as command

    return command.run_describe(settings.load(), args.map, args.json, sys.stdout)


@_ends
def maps_unregister(args: Namespace) -> int:
    if is_elsewhere(args):
        from airflow_monai.cli.remote import maps as there

        there.unregister(args)
    from airflow_monai import settings
    from airflow_monai.cli import maps as command

    return command.run_unregister(settings.load(), args.map, args.json, sys.stdout)


@_ends
def maps_clean(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import clean as command

    return command.run(settings.load(), args.runner, args.dry_run, args.json, sys.stdout)


def _store() -> Store:
    from airflow_monai import settings
    from airflow_monai.store import open_store

    return open_store(settings.load().store)


def _workflow_folder() -> str:
    from airflow_monai import settings

    return settings.load().workflow_folder


def _known_workflow_folder() -> str | None:
    """The site's folder of workflows where it can be told without starting Airflow for it."""
    if "airflow.configuration" in sys.modules:
        return _workflow_folder()
    return os.environ.get("AIRFLOW__MONAI__WORKFLOW_FOLDER") or None


@_ends
def map_ae(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import mapping as command

    found = command.applications(settings.load(), _person())
    return command.run_ae(found, args.ae_title, args.application, args.json, sys.stdout)


@_ends
def map_sink(args: Namespace) -> int:
    from airflow_monai import settings
    from airflow_monai.cli import mapping as command

    found = command.applications(settings.load(), _person())
    return command.run_sink(found, args.application, args.sink, args.remove, args.json, sys.stdout)


def _person() -> str:
    """Who types, for the history."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


@_ends
def argo_register(args: Namespace) -> int:
    from airflow_monai.cli import argo as command

    return command.run_register(command.server_of(args.conn_id), args.file, args.json, sys.stdout)


@_ends
def argo_delete(args: Namespace) -> int:
    from airflow_monai.cli import argo as command

    return command.run_delete(command.server_of(args.conn_id), args.template, args.json, sys.stdout)


@_ends
def argo_launch(args: Namespace) -> int:
    from airflow_monai.cli import argo as command

    server = command.server_of(args.conn_id)
    return command.run_launch(server, args.template, args.param, args.name, args.wait, args.json, sys.stdout)


@_ends
def argo_status(args: Namespace) -> int:
    from airflow_monai.cli import argo as command

    return command.run_status(command.server_of(args.conn_id), args.name, args.json, sys.stdout)


@_ends
def argo_cancel(args: Namespace) -> int:
    from airflow_monai.cli import argo as command

    return command.run_cancel(command.server_of(args.conn_id), args.name, args.json, sys.stdout)


@partial(_ends, refused=2)
def workflows_register(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_register(here, args.file, args.json, sys.stdout), args)


@partial(_ends, refused=2)
def workflows_update(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_update(here, args.workflow, args.file, args.json, sys.stdout), args)


@partial(_ends, refused=2)
def workflows_delete(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_delete(here, args.workflow, args.json, sys.stdout), args)


@partial(_ends, refused=2)
def workflows_list(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_list(here, args.json, sys.stdout), args)


@partial(_ends, refused=2)
def workflows_show(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_show(here, args.workflow, args.json, sys.stdout), args)


@partial(_ends, refused=2)
def workflows_validate(args: Namespace) -> int:
    from airflow_monai.cli import workflows as command

    return _answered(lambda here: command.run_validate(here, args.files, args.json, sys.stdout), args)


def _answered(run: Callable[[Workflows], int], args: Namespace) -> int:
    """What is done with the workflows; 1, with the reason on stderr, for what is refused."""
    from airflow_monai.cli.workflows import workflows_of
    from airflow_monai.errors import ServerRefused, SpecError, WorkflowConflict, WorkflowNotFound

    here = workflows_of(args.url, args.user)
    try:
        return run(here)
    except (ServerRefused, SpecError, WorkflowConflict, WorkflowNotFound) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
