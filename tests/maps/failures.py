"""The table of failures and attacks: what an application, or somebody around it, does, and what becomes of the task.

``tests/maps/test_failures.py`` does each of them on a real engine; ``docs/failures.md`` shows the table, and is written
by ``python docs/update.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from airflow_monai import errors
from airflow_monai.failures import Answer, is_retried
from airflow_monai.types import FailureKind


class Left(str, Enum):
    """What is there of the output folder afterwards."""

    PUBLISHED = "published"
    KEPT = "kept for looking"
    REMOVED = "removed"
    NONE = "none was made"


@dataclass(frozen=True)
class Case:
    """One row.

    :param what: happens.
    :param error: that the task ends with; None where it ends well.
    :param says: the message, with ``*`` for anything.
    :param script: Python that the application runs, with ``out`` and ``inp`` for its folders.
    :param task: arguments of the task that differ; ``site`` settings of ``[monai]``.
    :param scene: name of what the test itself has to do (:mod:`tests.maps.scenes`); empty where the script is all.
    :param seen: checks what the application found out, or what was published.
    """

    what: str
    error: type[errors.MonaiError] | None
    says: str = ""
    script: str = ""
    left: Left = Left.KEPT
    task: Mapping[str, Any] = field(default_factory=dict)
    site: Mapping[str, str] = field(default_factory=dict)
    scene: str = ""
    seen: Callable[[Any], bool] | None = None

    @property
    def kind(self) -> FailureKind | None:
        return None if self.error is None else self.error.failure

    @property
    def state(self) -> str:
        return "success" if self.error is None else "failed"

    @property
    def answer(self) -> str:
        return "" if self.kind is None else (Answer.RETRY if is_retried(Exception(), kind=self.kind) else Answer.FAIL)


def attempt(act: str) -> str:
    """A script that tries something and reports how it went."""
    return f"""
import json, os, socket, ctypes
def act():
    {act}
try:
    act(); result = "done"
except Exception as error:
    result = type(error).__name__
json.dump({{"result": result}}, open(out + "/metadata.json", "w"))
"""


def _refused(result: Any) -> bool:
    """It was the system that refused, not the script that is wrong."""
    return result["result"] in ("OSError", "PermissionError", "gaierror", "FileNotFoundError")


FORK_BOMB = """
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except OSError:
    print("no more than", count < 64, flush=True)
    os._exit(3)
"""
CHILD_KILLED = """
import os, sys
child = os.fork()
if child == 0:
    x = bytearray(300_000_000)
    os._exit(0)
status = os.waitpid(child, 0)[1]
"""
IGNORES = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
OWN_SIGNAL = """
import signal, sys, time
def end(*_):
    print("asked by SIGUSR1", flush=True)
    sys.exit(0)
signal.signal(signal.SIGUSR1, end)
time.sleep(60)
"""
MANY_FILES = """
import os
for number in range(200_000):
    open(f"{out}/{number}", "w").close()
"""
BIG = """
with open(out + "/big", "wb") as file:
    while True:
        file.write(bytes(2**20))
"""
DEEP = """
import os
os.chdir(out)
for _ in range(1500):
    os.mkdir("d"); os.chdir("d")
"""
NAMES = r"""
import os
for name in (b"new\nline", b"bell\x07", b"\xff\xfe", b"..hidden", b"-rf", b" ", b"x" * 255, "gr\u00fc\u00df".encode()):
    open(os.path.join(out.encode(), name), "w").close()
"""
LINKS = """
import os
os.symlink("/etc/passwd", out + "/passwd"); os.symlink("../../../../..", out + "/up"); os.symlink(inp, out + "/study")
"""
MOUNTED = """
import os
found = [line.split()[1] for line in open("/proc/mounts")]
stores = [path for path in os.environ["PLANTED"].split(":") if os.path.exists(path)]
import json
json.dump({"result": stores}, open(out + "/metadata.json", "w"))
"""

SPECIAL = """
import os, socket, stat
open(out + "/a", "w").close()
os.mkfifo(out + "/pipe")
socket.socket(socket.AF_UNIX).bind(out + "/socket")
try:
    os.mknod(out + "/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
except PermissionError:
    print("no devices")
"""
MANDATORY = {"outputs": [{"name": "out", "type": "SEG"}]}

ENDS = (
    Case(
        "exit code 1",
        errors.MapFailed,
        "*ended with exit code 1.* It last said: 'oh'. Its whole log:*",
        "print('oh'); raise SystemExit(1)",
    ),
    Case(
        "exit code 75 (EX_TEMPFAIL)",
        errors.MapInterrupted,
        "*exit code 75, which asks for another try*",
        "raise SystemExit(75)",
    ),
    Case("exit code 126", errors.MapFailed, "*ended with exit code 126.*", "raise SystemExit(126)"),
    Case("exit code 127", errors.MapFailed, "*ended with exit code 127.*", "raise SystemExit(127)"),
    Case("exit code 125", errors.MapFailed, "*ended with exit code 125.*", "raise SystemExit(125)"),
    Case("exit code 255", errors.MapFailed, "*ended with exit code 255.*", "raise SystemExit(255)"),
    Case(
        "killed by SIGKILL (137) from outside its memory limit",
        errors.MapInterrupted,
        "*ended from outside (exit code 137)*",
        "import os; os.kill(os.getpid(), 9)",
    ),
    Case(
        "ended by SIGTERM (143)",
        errors.MapInterrupted,
        "*ended from outside (exit code 143)*",
        "import os; os.kill(os.getpid(), 15)",
    ),
    Case(
        "a crash (SIGSEGV, 139)", errors.MapFailed, "*ended with exit code 139.*", "import os; os.kill(os.getpid(), 11)"
    ),
    Case(
        "an entry point that hides the exit code",
        errors.MapFailed,
        "*ended with exit code 7.*",
        scene="hiding entry point",
    ),
    Case(
        "a command that is not there",
        errors.MapFailed,
        "*ended with exit code 127.*exec /no/such failed*",
        task={"entrypoint": ["/no/such"], "command": []},
    ),
    Case(
        "a working directory that is not there: the engine makes it",
        None,
        left=Left.PUBLISHED,
        scene="no working directory",
    ),
    Case(
        "a working directory that is a file",
        errors.MapError,
        "*refuses to create container*not a directory*",
        scene="file as working directory",
    ),
)

LIMITS = (
    Case(
        "more memory than it may have",
        errors.MapOutOfMemory,
        "*memory limit of 48 MiB.*",
        "x = bytearray(300_000_000)",
        task={"resources": {"memory": "48Mi"}},
    ),
    Case(
        "a child goes over the memory limit, and the application fails of it",
        errors.MapOutOfMemory,
        "*memory limit of 48 MiB.*",
        CHILD_KILLED + "sys.exit(4)",
        task={"resources": {"memory": "48Mi"}},
    ),
    Case(
        "a child goes over the memory limit, and the application copes",
        None,
        left=Left.PUBLISHED,
        script=CHILD_KILLED,
        task={"resources": {"memory": "48Mi"}},
    ),
    Case(
        "a fork bomb",
        errors.MapFailed,
        "*ended with exit code 3.* It last said: 'no more than True'*",
        FORK_BOMB,
        task={"sandbox": {"pids": 64}},
    ),
    Case(
        "longer than its time limit",
        errors.MapTimedOut,
        "*longer than its time limit of 0.6 s.*",
        "import time; time.sleep(60)",
        task={"timeout_minutes": 0.01},
    ),
    Case(
        "the same, and it ignores SIGTERM",
        errors.MapTimedOut,
        "*longer than its time limit of 6 s.* It last said: 'deaf'*",
        IGNORES,
        task={"timeout_minutes": 0.1},
    ),
    Case(
        "the same, and it has stopped itself (SIGSTOP)",
        errors.MapTimedOut,
        "*longer than its time limit of 0.6 s.*",
        "import os; os.kill(os.getpid(), 19)",
        task={"timeout_minutes": 0.01},
    ),
    Case(
        "the same, and its image names another signal to stop by (STOPSIGNAL)",
        errors.MapTimedOut,
        "*longer than its time limit of 3 s.* It last said: 'asked by SIGUSR1'*",
        OWN_SIGNAL,
        task={"timeout_minutes": 0.05},
        site={"STOP_GRACE_SECONDS": "20"},
        scene="stop signal",
    ),
    Case(
        "the same, and somebody has paused its container",
        errors.MapTimedOut,
        "*longer than its time limit of 1.8 s.*",
        "import time; print('ready', flush=True); time.sleep(60)",
        task={"timeout_minutes": 0.03},
        scene="paused",
    ),
    Case(
        "the same, and no signal ends it: its task does not wait for it, and others remove it once that can be done",
        errors.MapNotStopped,
        "*longer than its time limit of 1.8 s, and the Docker engine*could not end it within 2 s*`airflow monai maps "
        "clean`*",
        "import time; print('ready', flush=True); time.sleep(60)",
        task={"timeout_minutes": 0.03},
        scene="unstoppable",
    ),
    Case(
        "a flood of lines", None, left=Left.PUBLISHED, script="for n in range(20_000): print('line', n)", scene="flood"
    ),
    Case(
        "one line without end",
        None,
        left=Left.PUBLISHED,
        script="import sys; sys.stdout.write('x' * 10_000_000)",
        scene="flood",
    ),
    Case(
        "/dev/shm full",
        errors.MapFailed,
        "*ended with exit code 1.*No space left on device*",
        "open('/dev/shm/x', 'wb').write(bytes(40_000_000))",
        task={"resources": {"shared_memory": "16Mi", "memory": "256Mi"}},
    ),
    Case(
        "/tmp, which is memory, filled beyond the memory limit",
        errors.MapOutOfMemory,
        "*memory limit of 64 MiB.*",
        "f = open('/tmp/x', 'wb')\nfor _ in range(300): f.write(bytes(2**20))",
        task={"resources": {"memory": "64Mi"}},
    ),
)

OUTPUTS = (
    Case(
        "output beyond the quota",
        errors.OutputTooLarge,
        "*wrote more than the 20 MiB that a task may write*[monai] output_quota*",
        BIG,
        Left.REMOVED,
        task={"sandbox": {"output_quota": "20Mi"}},
    ),
    Case(
        "a file that says it is 10 TB and fills no disk",
        errors.OutputTooLarge,
        "*wrote more than the 20 MiB*",
        "open(out + '/x', 'wb').truncate(10**13)",
        Left.REMOVED,
        task={"sandbox": {"output_quota": "20Mi"}},
    ),
    Case(
        "more files than it may write",
        errors.OutputTooLarge,
        "*wrote more than the 1000 files*[monai] output_files*",
        MANY_FILES,
        Left.REMOVED,
        site={"OUTPUT_FILES": "1000"},
    ),
    Case(
        "folders nested more than a thousand deep",
        errors.OutputTooLarge,
        "*nested deeper than 100*",
        DEEP,
        Left.REMOVED,
    ),
    Case(
        "no mandatory output",
        errors.MissingOutput,
        "*without its mandatory artifact 'out' (looked for*SEG*). In its*there is nothing. It last said: 'bye'*",
        "print('bye')",
        task=MANDATORY,
    ),
    Case(
        "an empty output folder that is mandatory",
        errors.MissingOutput,
        "*without its mandatory artifact 'out'*there is nothing.*",
        "pass",
        task=MANDATORY,
    ),
    Case(
        "links that lead out of the output",
        errors.MissingOutput,
        "*without its mandatory artifact 'out'*",
        LINKS,
        task=MANDATORY,
    ),
    Case(
        "links in a circle",
        errors.MissingOutput,
        "*without its mandatory artifact 'out'*",
        "import os; os.symlink(out + '/b', out + '/a'); os.symlink(out + '/a', out + '/b')",
        task=MANDATORY,
    ),
    Case(
        "a second name (hard link) of a file of the output",
        None,
        left=Left.PUBLISHED,
        script="import os; open(out + '/a', 'w').write('x'); os.link(out + '/a', out + '/b')",
        seen=lambda names: sorted(names) == ["a", "b"],
        scene="names",
    ),
    Case(
        "a device, a pipe and a socket in the output",
        None,
        left=Left.PUBLISHED,
        script=SPECIAL,
        seen=lambda names: names == ["a"],
        scene="names",
    ),
    Case(
        "hostile file names",
        None,
        left=Left.PUBLISHED,
        script=NAMES,
        seen=lambda names: len(names) == 8 and all(name.isprintable() for name in names),
        scene="names",
    ),
    Case(
        "a program with the setuid bit",
        None,
        left=Left.PUBLISHED,
        script="import os; open(out + '/a', 'w').close(); os.chmod(out + '/a', 0o6755)",
        scene="setuid",
    ),
    Case(
        "a result of two megabytes",
        errors.MapError,
        "*metadata.json of more than 1048576 bytes*",
        "open(out + '/metadata.json', 'w').write('{\"a\": \"' + 'x' * 2_000_000 + '\"}')",
    ),
    Case(
        "a result nested 100,000 deep",
        errors.MapError,
        "*metadata.json that is not a JSON object*",
        "open(out + '/metadata.json', 'w').write('[' * 100_000 + ']' * 100_000)",
    ),
    Case(
        "a result with NaN and 1e999",
        None,
        left=Left.PUBLISHED,
        script="open(out + '/metadata.json', 'w').write('{\"result\": [NaN, 1e999, 1]}')",
        seen=lambda result: result["result"] == [None, None, 1],
        scene="result",
    ),
)

TRIES = {
    "it calls an address": "socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "it looks up a name": "socket.getaddrinfo('example.org', 80)",
    "it writes to its input": "open(inp + '/x', 'w')",
    "it writes to the root file system": "open('/etc/x', 'w')",
    "it becomes root": "os.setuid(0)",
    "it mounts a file system": "if ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None): raise OSError",
    "it opens a device of the host": "open('/dev/mem', 'rb')",
}

ATTACKS = (
    *(
        Case(what, None, left=Left.PUBLISHED, script=attempt(act), seen=_refused, scene="result")
        for what, act in TRIES.items()
    ),
    Case(
        "it reads the Docker socket, the store, or another task's output by their paths on the host",
        None,
        left=Left.PUBLISHED,
        script=MOUNTED,
        seen=lambda result: result["result"] == [],
        scene="host paths",
    ),
)

REQUESTS = (
    Case(
        "a spec asks for the host's network",
        errors.PolicyRefused,
        "*args.network: 'host' would put it among what else runs here*",
        left=Left.NONE,
        task={"sandbox": {"network": "host"}},
    ),
    Case(
        "a spec asks for a network that the site does not list",
        errors.PolicyRefused,
        "*args.network: 'models' is not allowed: none is ([monai] allowed_networks)*",
        left=Left.NONE,
        task={"sandbox": {"network": "models"}},
    ),
    Case(
        "a spec asks for a capability",
        errors.PolicyRefused,
        "*args.capabilities: SYS_ADMIN is not among what is allowed: SYS_NICE*",
        left=Left.NONE,
        task={"sandbox": {"capabilities": "CAP_SYS_ADMIN"}},
        site={"ALLOWED_CAPABILITIES": "SYS_NICE"},
    ),
    Case(
        "a spec asks for the Docker socket",
        errors.PolicyRefused,
        "*args.mounts: '/var/run/docker.sock' would open the host*",
        left=Left.NONE,
        task={"sandbox": {"mounts": "/var/run/docker.sock:/s"}},
        site={"ALLOWED_MOUNTS": "/"},
    ),
    Case(
        "a spec asks for a folder that the site does not list",
        errors.PolicyRefused,
        "*args.mounts: '/srv/other' is not among what is allowed: /srv/models*",
        left=Left.NONE,
        task={"sandbox": {"mounts": "/srv/other:/m"}},
        site={"ALLOWED_MOUNTS": "/srv/models"},
    ),
    Case(
        "a spec asks for the store",
        errors.PolicyRefused,
        "*would open the host or the store*",
        left=Left.NONE,
        scene="store as mount",
        site={"ALLOWED_MOUNTS": "/"},
    ),
    Case(
        "a spec asks for more memory than one task may have",
        errors.PolicyRefused,
        "*resources.memory: 4096 MiB are more than the 2048 MiB of one task ([monai] max_memory)*",
        left=Left.NONE,
        task={"resources": {"memory": "4Gi"}},
        site={"MAX_MEMORY": "2Gi"},
    ),
    Case(
        "a spec asks for more processes than one task may have",
        errors.PolicyRefused,
        "*args.pids: 5000 are more than the 4096*",
        left=Left.NONE,
        task={"sandbox": {"pids": 5000}},
    ),
    Case(
        "a spec asks for privileges, devices, another runtime: an error of the file",
        errors.SpecError,
        "*'privileged' is refused*",
        left=Left.NONE,
        scene="privileged",
    ),
    Case(
        "an image that the site does not list",
        errors.PolicyRefused,
        "*'noop:1.0.0' is refused*matches none of the patterns*registry.hospital.example/* ([monai] allowed_images)*",
        left=Left.NONE,
        site={"ALLOWED_IMAGES": "registry.hospital.example/*"},
    ),
    Case(
        "an image by a tag where the site wants digests",
        errors.PolicyRefused,
        "*must be named by its digest*([monai] require_digests)*",
        left=Left.NONE,
        site={"REQUIRE_DIGESTS": "True"},
    ),
)

IMAGES = (
    Case(
        "an image that is not here, where nothing is to be pulled",
        errors.MapNotFound,
        "*'no/such:1' is not on the Docker engine*image_pull = never*",
        left=Left.NONE,
        task={"image": "no/such:1"},
        site={"IMAGE_PULL": "never"},
    ),
    Case(
        "an image that its registry does not know",
        errors.MapNotFound,
        "*pulling it failed:*manifest unknown*",
        left=Left.NONE,
        scene="registry: unknown",
        site={"IMAGE_PULL": "missing"},
    ),
    Case(
        "an image that its registry does not give us",
        errors.ImageDenied,
        "*pulling it failed: *denied*docker_conn_id*",
        left=Left.NONE,
        scene="registry: denied",
        site={"IMAGE_PULL": "missing"},
    ),
    Case(
        "the task's time is over before its image is here",
        errors.MapNotStarted,
        "*the 0.05 minutes that it may take in all (execution_timeout) were over before*began: it was waiting for its "
        "inputs and its image*",
        left=Left.NONE,
        site={"IMAGE_PULL": "missing"},
        scene="out of time over its image",
    ),
    Case(
        "a registry that is away",
        errors.RegistryUnavailable,
        "*pulling it failed: *refused*Another try*",
        left=Left.NONE,
        task={"image": "127.0.0.1:9/no/such:1"},
        site={"IMAGE_PULL": "missing"},
    ),
    Case(
        "a registry that answers 503",
        errors.RegistryUnavailable,
        "*pulling it failed: *503*Another try*",
        left=Left.NONE,
        scene="registry: broken",
        site={"IMAGE_PULL": "missing"},
    ),
    Case(
        "an image with a program for nothing: it holds no such file",
        errors.MapFailed,
        "*ended with exit code 12*",
        scene="registry: no program",
        site={"IMAGE_PULL": "missing"},
    ),
)

ENGINES = (
    Case(
        "somebody removes the container",
        errors.MapInterrupted,
        "*was removed while it ran*It last said: 'ready'*",
        "import time; print('ready', flush=True); time.sleep(60)",
        scene="removed",
    ),
    Case(
        "somebody kills the container",
        errors.MapInterrupted,
        "*ended from outside (exit code 137)*It last said: 'ready'*",
        "import time; print('ready', flush=True); time.sleep(60)",
        scene="killed",
    ),
    Case(
        "the engine is not there",
        errors.RunnerUnavailable,
        "*unix:///nowhere/docker.sock cannot be reached*",
        left=Left.NONE,
        site={"DOCKER_URL": "unix:///nowhere/docker.sock"},
    ),
    Case(
        "the engine has no driver for cards",
        errors.MapError,
        "*can give containers no GPU: it has no driver for them*",
        task={"resources": {"gpu": 1, "cpu": 1}},
    ),
    Case(
        "the engine stops in mid-run and stays away: the next try takes the verdict",
        errors.RunnerUnavailable,
        "*cannot be reached*It last said: 'ready'*",
        scene="own engine: stopped",
    ),
    Case(
        "the engine restarts in mid-run",
        errors.MapInterrupted,
        "*ended from outside (exit code *",
        scene="own engine: restarted",
    ),
    Case(
        "the engine is killed and starts again",
        errors.MapInterrupted,
        "*ended from outside (exit code *",
        scene="own engine: killed",
    ),
)

USERS = (
    Case(
        "an input that the container's user may not read",
        errors.MapError,
        "*closed to user 1000, which the container runs as. Set [monai] container_user*",
        left=Left.NONE,
        scene="closed input",
    ),
    Case(
        "one file of it that it may not read",
        errors.MapError,
        "*a file in * is closed to user 1000*",
        left=Left.NONE,
        scene="closed file",
    ),
    Case(
        "an output folder that cannot be given to it (root_squash)",
        errors.MapError,
        "*cannot be given to user 1000*root_squash*container_user*",
        scene="root squash",
    ),
)

GROUPS: Mapping[str, tuple[Case, ...]] = {
    "The application ends badly": ENDS,
    "It goes over a limit": LIMITS,
    "Its output is not what it should be": OUTPUTS,
    "It tries to get out": ATTACKS,
    "A workflow asks for more than it may have": REQUESTS,
    "Its image cannot be had": IMAGES,
    "The engine, or somebody at it": ENGINES,
    "Users of the host": USERS,
}
CASES = tuple(case for cases in GROUPS.values() for case in cases)


def page() -> str:
    """The table as ``docs/failures.md`` shows it."""
    parts = []
    for title, cases in GROUPS.items():
        parts.append(
            f"### {title}\n\n| what happens | task | error, kind | message | another try | output |\n"
            "|---|---|---|---|---|---|\n"
        )
        for case in cases:
            error = f"`{case.error.__name__}`, {case.kind.value}" if case.error and case.kind else ""
            says = case.says.strip("*").replace("*", " … ").replace("|", "\\|")
            answer = {"retry": "yes", "fail": "no", "": ""}[case.answer]
            cells = (case.what, case.state, error, " ".join(says.split()), answer, case.left.value)
            parts.append("| " + " | ".join(cells) + " |\n")
        parts.append("\n")
    return "".join(parts)
