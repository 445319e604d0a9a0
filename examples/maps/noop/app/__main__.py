"""The quick MAP: one tiny DICOM file and ``metadata.json`` a run, or one of the ways in which an application fails.

For load and failure tests: ``python app -i IN -o OUT``, or the folders from the environment. It needs nothing but the
Python interpreter (python3-minimal will do), so that what a test measures is the system around it.

``NOOP_MODE`` says what to do, ``NOOP_SECONDS`` for how long (0 by default):

=========  ============================================================================
ok         write the outputs after NOOP_SECONDS
exit7      end with exit code 7 and without outputs
no-output  end with exit code 0 and without outputs
sleep      like ok, but NOOP_SECONDS is an hour by default: for time-outs and kills
memory     fill the memory until killed (or for NOOP_SECONDS, then fail)
spam       print 20,000 lines, then like ok
hl7        like ok, and write report.hl7, an HL7 v2 message (ORU) with a control id of its own
leak       print the first PatientName of the input, as careless applications do, then like ok
leak-exit7 print it, and fail with exit code 7 and an error that has it
tell       print its command line and its OPENAI_API_KEY, as careless applications do, then like ok
=========  ============================================================================
"""

from __future__ import annotations

import os
import struct
import sys
import time

import dicom

SPAM_LINES = 20_000
CHUNK = 16 * 1024 * 1024


def main() -> int:
    """Run the mode that the environment asks for and return the exit code."""
    source, target = _folder("-i", "INPUT", "input"), _folder("-o", "OUTPUT", "output")
    mode = os.environ.get("NOOP_MODE", "ok")
    seconds = float(os.environ.get("NOOP_SECONDS") or (3600 if mode == "sleep" else 0))
    if mode not in ("ok", "exit7", "no-output", "sleep", "memory", "spam", "hl7", "leak", "leak-exit7", "tell"):
        print(f"noop: NOOP_MODE={mode!r} is unknown", file=sys.stderr)
        return 2
    print(f"noop: mode {mode}", flush=True)
    if mode == "memory":
        return _fill_memory(seconds or 60)
    time.sleep(seconds)
    if mode == "exit7":
        print("noop: failing with exit code 7, as asked", file=sys.stderr)
        return 7
    if mode == "no-output":
        return 0
    if mode == "spam":
        _spam()
    if mode == "tell":
        key = os.environ.get("OPENAI_API_KEY", "")
        print(f"noop: called with {' '.join(sys.argv[1:])}; the key is {key}, and ends with {key[-4:]}", flush=True)
    if mode in ("leak", "leak-exit7"):
        name = dicom.read_study(source).get(dicom.PATIENT_NAME, b"")
        print(f"noop: processing {name.decode('utf-8', 'replace').strip()}", flush=True)
        if mode == "leak-exit7":
            print(f"noop: ValueError: no lungs in {name.decode('utf-8', 'replace').strip()}", file=sys.stderr)
            return 7
    _write_outputs(source, target)
    if mode == "hl7":
        _write_message(target)
    return 0


def _folder(option: str, kind: str, default: str) -> str:
    """A folder from the command line, else from the environment of either MAP generation (no argparse: see above)."""
    if option in sys.argv[1:-1]:
        return sys.argv[sys.argv.index(option) + 1]
    return os.environ.get(f"HOLOSCAN_{kind}_PATH") or os.environ.get(f"MONAI_{kind}PATH") or default


def _spam() -> None:
    for line in range(SPAM_LINES):
        print(f"noop: line {line} of {SPAM_LINES} that nobody wants to read in a task log")


def _fill_memory(seconds: float) -> int:
    """Allocate and touch memory for so long; returns only where no limit stopped it."""
    kept = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            kept.append(bytearray(os.urandom(1)) * CHUNK)
        except MemoryError:  # the process runner limits the address space: die as a kernel's kill would
            kept.clear()
            print("noop: out of memory", file=sys.stderr, flush=True)
            os.kill(os.getpid(), 9)
        time.sleep(0.01)
    print("noop: nothing limits the memory here", file=sys.stderr)
    return 1


def _write_outputs(input_folder: str, output_folder: str) -> None:
    os.makedirs(output_folder, exist_ok=True)
    image = dicom.secondary_capture(dicom.read_study(input_folder))
    with open(os.path.join(output_folder, "result.dcm"), "wb") as file:
        file.write(image)
    with open(os.path.join(output_folder, "metadata.json"), "w", encoding="utf-8") as file:
        file.write('{"volume_ml": 1234, "ok": true}\n')
    print(f"noop: wrote result.dcm ({len(image)} bytes) and metadata.json", flush=True)


def _write_message(output_folder: str) -> None:
    lines = [
        f"MSH|^~\\&|NOOP|SITE|RIS|H|20260101120000||ORU^R01^ORU_R01|{os.urandom(8).hex()}|P|2.5.1",
        "PID|1",
        "OBR|1|||NOOP",
        "OBX|1|NM|VOLUME||1234|ml|||||F",
        "",
    ]
    with open(os.path.join(output_folder, "report.hl7"), "wb") as file:
        file.write("\r".join(lines).encode("ascii"))
    print("noop: wrote report.hl7", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, struct.error) as error:
        print(f"noop: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
