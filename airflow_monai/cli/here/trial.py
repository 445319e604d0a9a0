"""``airflow monai run``: one workflow on a folder of DICOM, without a scheduler."""

from __future__ import annotations

from argparse import Namespace

from airflow_monai.cli.ending import ends
from airflow_monai.errors import MonaiError


@ends(refused=2)
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
