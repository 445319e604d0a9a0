"""Lung segmentation on CT as a MONAI Application Package; also ``python app -i IN -o OUT`` from a shell.

Exit codes: 0 well, 3 no CT in the input, 4 no lung in the CT, 5 pixels that cannot be decoded, 6 input that may not be
read, 1 anything else. ``metadata.json`` then says why in ``exception`` and ``exception_message``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
import warnings
from pathlib import Path

import ct_series
import lungs
import results
from problems import Problem


def main() -> int:
    """Segment the CT in the input folder and return the exit code."""
    arguments = _arguments()
    _keep_quiet()
    try:
        _run(arguments.input, arguments.output)
    except Problem as problem:
        return _fail(arguments.output, problem, str(problem), problem.exit_code)
    except Exception as error:  # noqa: BLE001 - the edge of the process: say where, not what, see _keep_quiet
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _fail(arguments.output, error, f"{type(error).__name__} in {place.filename}:{place.lineno}", 1)
    return 0


def _keep_quiet() -> None:
    """pydicom puts the values that it warns of into its messages, and a log is no place for a patient's data."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _fail(output: Path, error: Exception, message: str, exit_code: int) -> int:
    print(f"lung-seg: {message}", file=sys.stderr)
    results.write_metadata(output, {"exception": type(error).__name__, "exception_message": message})
    return exit_code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="lung-seg", description="Segment the lungs on a CT study.")
    parser.add_argument("-i", "--input", type=Path, default=_folder("INPUT", "input"), help="folder of DICOM files")
    parser.add_argument("-o", "--output", type=Path, default=_folder("OUTPUT", "output"), help="folder for the results")
    return parser.parse_args()


def _folder(kind: str, default: str) -> Path:
    """A folder from the environment of either MAP generation."""
    return Path(os.environ.get(f"HOLOSCAN_{kind}_PATH") or os.environ.get(f"MONAI_{kind}PATH") or default)


def _run(source: Path, target: Path) -> None:
    began = time.monotonic()
    ct = ct_series.load(source)
    _say(began, f"read {len(ct.images)} slices of {ct.hu.shape[1]} x {ct.hu.shape[2]}")
    found = lungs.segment(ct)
    _say(began, "segmented")
    numbers = results.write(target, ct, found)
    _say(began, f"wrote the results: {numbers['left_ml']} ml left, {numbers['right_ml']} ml right")


def _say(began: float, message: str) -> None:
    print(f"lung-seg: {time.monotonic() - began:5.1f} s  {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
