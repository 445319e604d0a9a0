"""How the process runner starts an application: in bubblewrap's namespaces, or as a plain process where there are none.

An application is written for the paths of its image. In the sandbox it finds them; without one, they are replaced by
the real ones in its command and environment.
"""

from __future__ import annotations

import functools
import glob
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from airflow_monai.errors import MapError, RunnerUnavailable
from airflow_monai.maps.manifest import GENERATION_FOLDERS
from airflow_monai.maps.policy import HOST_NETWORK
from airflow_monai.maps.runners.base import MapJob

log = logging.getLogger(__name__)

_PYTHON = re.compile(r"(?:/usr(?:/local)?/bin/)?python(?:3(?:\.\d+)?)?\Z")
_SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = (
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/passwd",
)
_PYTHON_PARTS = ("bin", "etc/fonts", "include", "lib", "lib32", "lib64", "libexec", "pyvenv.cfg", "share", "ssl")
"""What an application needs of the folder that the worker's Python is installed in. Sites keep more there."""

PROBE_SECONDS = 30.0
"""Bubblewrap needs milliseconds; the rest is for a busy host."""
_REFUSAL = re.compile(
    r"Operation not permitted|Permission denied|No permissions|not allowed|Function not implemented|"
    r"[Nn]ot supported|does not support|[Uu]nknown option|setuid|"
    r"(?:namespace failed|pivot_root\S*|slave|prctl\S*(?: failed)?): Invalid argument|"
    r"cannot open shared object file: No such file"
)
"""Words of what does not pass: of the kernel that allows no namespaces, of a bubblewrap that is too old or broken."""
LIMITS = "/proc/sys/user"
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")

DRIVER = "/proc/driver/nvidia/gpus"
_CARD_FILE = re.compile(r"/dev/nvidia\d+\Z")
_LOADER = "LD_"
_INFORMATION = re.compile(r"^(GPU UUID|Device Minor):\s*(\S+)\s*$", re.MULTILINE)
_ID, _MINOR = re.compile(r"GPU-[^?]+"), re.compile(r"\d+")
"""The driver fills an id with question marks until the card is used for the first time."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to execute.

    :param environment: of the program that ``argv`` names. That is bubblewrap where there is one: it runs with the
        worker's rights, so nothing that an application chose may be in it.
    :param isolated: in namespaces of its own, without network.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    cwd: Path
    isolated: bool


@dataclass(frozen=True, slots=True)
class Cards:
    """What the driver tells of this host's cards.

    :param files: id of a card -> its device file.
    :param untold: whether there are others, of which it does not tell both.
    :param unread: why nobody could read now what it tells of one; empty when all was read.
    """

    files: Mapping[str, str]
    untold: bool = False
    unread: str = ""


def bubblewrap_works() -> bool:
    """Whether this host has bubblewrap and lets this user make namespaces with it.

    :raises RunnerUnavailable: when that cannot be told now.
    """
    return _sandbox_starts("--ro-bind", "/", "/")


@functools.cache
def proc_options() -> tuple[str, ...]:
    """How the sandbox gets its /proc: a new one, with nothing in it but the application.

    Within a container the kernel refuses that, as an engine hides parts of /proc. There the application is given the
    container's own: it sees that other processes run and their command lines, but neither what is in their environment,
    files or memory, nor can it signal them: its namespaces have no right over theirs.

    :raises RunnerUnavailable: when it cannot be told now whether the kernel refuses it; the next call finds out anew.
    """
    new = ("--proc", "/proc")
    if _sandbox_starts("--ro-bind", "/", "/", *new):
        return new
    log.info("The kernel refuses a /proc of its own here: applications see the worker's, as within a container")
    return ("--ro-bind", "/proc", "/proc")


def _sandbox_starts(*options: str) -> bool:
    """Whether bubblewrap starts a program so.

    Only a no that does not pass counts as one: what is taken for it, a busy host say, would let applications out.

    :raises RunnerUnavailable: when there is no answer now.
    """
    program = shutil.which("bwrap")
    if program is None:
        return False
    command = [program, "--unshare-all", *options, "true"]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PROBE_SECONDS, env={**os.environ, "LC_ALL": "C"}, check=False
        )
    except (FileNotFoundError, PermissionError) as error:
        log.warning("%s cannot be executed: %s", program, error.strerror)
        return False
    except subprocess.TimeoutExpired:
        raise _unanswered(f"it had not ended after {PROBE_SECONDS:g} s") from None
    except OSError as error:
        raise _unanswered(f"it could not be started: {error.strerror}") from error
    if done.returncode < 0:
        raise _unanswered(f"it was ended by signal {-done.returncode}")
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode and not _is_refusal(said):
        raise _unanswered(f"it said {said[-300:]!r}")
    return done.returncode == 0


def _is_refusal(said: str) -> bool:
    """Whether bubblewrap tells of something that does not pass.

    When as many namespaces are in use as may be, it says what it says where none may be.
    """
    return any(map(_allows_none, _NAMESPACES)) if "ENOSPC" in said else _REFUSAL.search(said) is not None


def _allows_none(namespace: str) -> bool:
    try:
        return int(Path(LIMITS, f"max_{namespace}_namespaces").read_text()) == 0
    except (OSError, ValueError):  # a kernel without such a limit
        return False


def _unanswered(why: str) -> RunnerUnavailable:
    log.warning("Nobody can tell now whether bubblewrap works on this host: %s", why)
    return RunnerUnavailable(
        f"Nobody can tell now whether bubblewrap, which shuts applications in, works on this host: {why}. So nothing "
        "is started. This host is most likely too busy, or short of memory, processes or namespaces; another try may "
        "find it better. If none does, see what `bwrap --unshare-all --ro-bind / / true` says there."
    )


def start_of(job: MapJob, scratch: Path, *, isolated: bool) -> Start:
    """How to start the job.

    :param scratch: an empty folder; the working directory of an application that is not isolated.
    """
    argv = tuple(_own_python(job.command))
    cards = ",".join(job.devices)
    python_folder = str(Path(sys.executable).parent)
    environment = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PATH": os.pathsep.join((python_folder, "/usr/local/bin", "/usr/bin", "/bin")),
        **job.environment,
        # CUDA numbers the cards that it is told of anew; none is told as one that there is not
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": cards or "-1",
        "NVIDIA_VISIBLE_DEVICES": cards or "void",
    }
    if isolated:
        given = [word for item in environment.items() for word in ("--setenv", *item)]
        return Start((*_bubblewrap(job), *given, "--", *argv), {}, scratch, isolated=True)
    # paths of the image mean other files here, or none, and the loader would look there for the worker's own Python
    environment = {name: value for name, value in environment.items() if not name.startswith(_LOADER)}
    real = _real_paths(job, scratch)
    return Start(
        tuple(_with_real_paths(part, real) for part in argv),
        {name: _with_real_paths(value, real) for name, value in environment.items()} | {"HOME": str(scratch)},
        scratch,
        isolated=False,
    )


def _own_python(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command with the worker's own interpreter, whose packages stand in for the image's."""
    return (sys.executable, *command[1:]) if _PYTHON.match(command[0]) else command


def _application_paths(job: MapJob) -> dict[str, Path]:
    """Paths of the image -> the unpacked MAP's folders, for both generations."""
    folder = Path(job.found.location)
    paths: dict[str, Path] = {}
    for name in GENERATION_FOLDERS:
        paths[f"/opt/{name}/app"] = folder / "app"
        paths[f"/opt/{name}/models"] = folder / "models"
        for file in ("app.json", "pkg.json"):
            paths[f"/etc/{name}/{file}"] = next(
                (path for path in (folder / file, folder / "etc" / file) if path.exists()), folder / file
            )
    paths[job.found.manifest.application_root] = folder / "app"
    paths[job.found.manifest.models_path] = folder / "models"
    return {target: source for target, source in paths.items() if source.exists()}


def _bubblewrap(job: MapJob) -> list[str]:
    """Command line up to the application's own: nothing of the host but what is listed, read-only but the output."""
    # its parent is the keeper, not the worker: dying with it keeps the application durable and never leaves one behind
    command = [_program(), "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    if job.confinement.network == HOST_NETWORK:  # the only one that there is: bubblewrap has none of its own
        command += ["--share-net", "--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]
    command += [*proc_options(), "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    for folder in _SYSTEM_FOLDERS:
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += ["--ro-bind", folder, folder]
    for path in _SYSTEM_FILES:
        command += ["--ro-bind-try", path, path]
    command += _programs()
    for target, source in sorted(_application_paths(job).items()):
        command += ["--ro-bind", str(source), target]
    command += ["--dir", job.found.manifest.working_directory]
    command += _card_devices(job)
    for mount in job.mounts:
        command += ["--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target]
    return [*command, "--remount-ro", "/", "--chdir", job.found.manifest.working_directory]


def _card_devices(job: MapJob) -> list[str]:
    """Options that show the driver's devices: of cards only the job's own, where the driver tells which those are.

    CUDA finds only cards whose device files it can open, so no application gets at another card by changing its
    environment.

    :raises MapError: as :func:`check_cards`, and ``RunnerUnavailable``.
    """
    if not job.devices:
        return []
    shown = set(glob.glob("/dev/nvidia*"))
    cards = {path for path in shown if _CARD_FILE.match(path)}
    told = told_cards()
    _check_cards(job, told)
    slices = any(map(_is_slice, job.devices))
    if all(id_ in told.files for id_ in job.devices):
        shown -= cards - {told.files[id_] for id_ in job.devices}
    elif not slices:
        shown -= {path for id_, path in told.files.items() if id_ not in job.devices}
    open_ = cards & shown
    if len(open_) > len(job.devices) or (slices and len(open_) > 1):
        why = "slices (MIG) are told apart elsewhere" if slices else f"the driver tells nothing of them in {DRIVER}"
        log.warning(
            "%s can open the device files of %s%d cards of this host, since %s. CUDA_VISIBLE_DEVICES names those "
            "that are leased for it; nothing but that keeps it from the others.",
            job.found.reference,
            "all " if open_ == cards else "",
            len(open_),
            why,
        )
    return [word for path in sorted(shown) for word in ("--dev-bind-try", path, path)]


def check_cards(job: MapJob) -> None:
    """Whether the driver lets the job's cards be told from others, or does not tell of them at all.

    :raises MapError: when it tells of all the host's cards, and one of the job's is none of them.
    :raises RunnerUnavailable: when what it tells of one cannot be read now, which may be the job's.
    """
    if job.devices:
        _check_cards(job, told_cards())


def _check_cards(job: MapJob, told: Cards) -> None:
    unknown = next((id_ for id_ in job.devices if id_ not in told.files and not _is_slice(id_)), None)
    if unknown is None:
        return
    if told.unread:
        raise RunnerUnavailable(
            f"Which device file is that of the card {unknown}, leased for {job.found.reference}, cannot be told now: "
            f"{told.unread}. Another try may find it."
        )
    if told.files and not told.untold:
        raise MapError(
            f"The card {unknown}, which is leased for {job.found.reference}, is none of this host's: its driver "
            f"tells of {', '.join(sorted(told.files))}. Was a card changed? Make the site's inventory anew on this "
            "host (`airflow monai pools sync --detect`)."
        )


def _is_slice(id_: str) -> bool:
    return id_.startswith("MIG-")


def device_files() -> Mapping[str, str]:
    """Id of each card of this host -> its device file, as far as the driver tells them."""
    return told_cards().files


def told_cards(driver: str = DRIVER) -> Cards:
    """What the driver tells of the cards in its folder; nothing where it has none."""
    files: dict[str, str] = {}
    untold, unread = False, ""
    for path in glob.glob(f"{driver}/*"):
        try:
            told = dict(_INFORMATION.findall(Path(path, "information").read_text()))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            told = {}  # which does not pass
        except (OSError, ValueError) as error:
            told, unread = {}, f"{path}/information cannot be read: {error}"
        id_, minor = told.get("GPU UUID", ""), told.get("Device Minor", "")
        if _ID.fullmatch(id_) and _MINOR.fullmatch(minor):
            files[id_] = f"/dev/nvidia{minor}"
        else:
            untold = True
    return Cards(files, untold, unread)


def _program() -> str:
    return os.path.abspath(shutil.which("bwrap") or "/usr/bin/bwrap")


def _programs() -> list[str]:
    """Options that show the system's programs and the worker's Python, without Airflow's own files among them."""
    shown = {"/usr", *_python_parts()}
    options = {path: ["--ro-bind-try", path, path] for path in shown}
    for path in _airflow_files():
        if path not in shown and any(Path(path).is_relative_to(top) for top in shown):
            options[path] = ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    # outermost first: what is hidden may hold a Python that is shown, and the other way round
    return [word for path in sorted(options) for word in options[path]]


def _python_parts() -> list[str]:
    """Where the worker's interpreter and its packages lie."""
    real = Path(sys.executable).resolve().parent.parent
    tops = {Path(sys.prefix), Path(sys.base_prefix), real} - {Path("/usr"), Path("/")}
    return sorted({str(top / part) for top in tops for part in _PYTHON_PARTS if (top / part).exists()})


def _airflow_files() -> list[str]:
    """Airflow's folder and configuration as they are now; they hold passwords and keys."""
    home = os.path.expanduser(os.environ.get("AIRFLOW_HOME") or "~/airflow")
    files = (home, os.path.expanduser(os.environ.get("AIRFLOW_CONFIG") or os.path.join(home, "airflow.cfg")))
    return [os.path.realpath(path) for path in files if os.path.exists(path)]


def _real_paths(job: MapJob, scratch: Path) -> dict[str, str]:
    paths = {target: str(source) for target, source in _application_paths(job).items()}
    paths |= {mount.target: str(mount.source) for mount in job.mounts}
    return {job.found.manifest.working_directory: str(scratch), **paths}


def _with_real_paths(text: str, real: Mapping[str, str]) -> str:
    """The text with every path that begins with one of ``real`` replaced; the longest that fits counts."""
    targets = sorted(real, key=len, reverse=True)
    pattern = "|".join(rf"(?<![\w./-]){re.escape(target)}(?![\w.-])" for target in targets)
    return re.sub(pattern, lambda match: real[match[0]], text)
