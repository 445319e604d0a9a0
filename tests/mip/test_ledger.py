"""Many who submit at once, and one who is killed while it does."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from airflow_monai.mip.ledger import ABANDONED_SECONDS, Ledger
from airflow_monai.mip.model import RunId
from airflow_monai.store.local import LocalStore
from tests.mip.cases import asked_for

SUBMIT = """
import sys
from airflow_monai.mip.ledger import Ledger
from airflow_monai.store.local import LocalStore
from tests.mip.cases import asked_for

ledger = Ledger(LocalStore(sys.argv[1]))
for number in range(int(sys.argv[2])):
    print(ledger.submit(asked_for(key_name=f"{sys.argv[3]}x{number}"), b"ciphertext").run_id, flush=True)
"""


def submitter(folder: Path, count: int, name: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", SUBMIT, str(folder), str(count), name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_two_servers_give_every_run_a_number_of_its_own(tmp_path: Path) -> None:
    both = [submitter(tmp_path, 30, name) for name in ("one", "two")]
    told = [line for process in both for line in process.communicate(timeout=180)[0].split()]
    assert sorted(told, key=lambda text: int(text.rpartition("-")[2])) == [f"alpha-{n}" for n in range(1, 61)]
    ledger = Ledger(LocalStore(tmp_path))
    runs = [ledger.run(RunId("alpha", number)) for number in range(1, 61)]
    assert len({run.key_name for run in runs if run}) == 60
    keys = set(ledger.store.children("mip/keys"))
    assert keys == {f"{run.run_id}-{run.key_name}" for run in runs if run}, "nothing is left of lost races"


def test_what_a_killed_server_has_told_is_there_and_open(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path))
    for turn in range(4):
        process = submitter(tmp_path, 10_000, f"turn{turn}")
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.05 + 0.037 * turn)
        process.send_signal(signal.SIGKILL)
        told = (first + process.stdout.read()).split("\n")[:-1]  # the last line may be half written
        process.wait(60)
        numbers = ledger.numbers("alpha")
        assert numbers == list(range(1, len(numbers) + 1))
        is_open = set(ledger.open_runs())
        assert {RunId("alpha", number) for number in numbers} <= is_open
        for text in told:
            run_id = RunId.parse(text)
            assert run_id is not None
            run = ledger.run(run_id)
            assert run is not None and ledger.encrypted_key(run) == b"ciphertext"


def test_a_folder_that_a_killed_server_left_is_no_run(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path))
    (tmp_path / "mip" / "jobs" / "alpha" / "1").mkdir(parents=True)
    assert (ledger.jobs(), ledger.numbers("alpha")) == ([], [])
    assert str(ledger.submit(asked_for(), None).run_id) == "alpha-1"


def test_runs_that_are_closed_stay_in_the_list(tmp_path: Path) -> None:
    ledger = Ledger(LocalStore(tmp_path))
    for job in ("beta", "alpha", "alpha"):
        ledger.submit(asked_for(job), None)
    ledger.store.write_json("mip/open/gamma-1.json", {"since": "2020-01-01T00:00:00+00:00"})  # of a killed server
    ledger.close(RunId("alpha", 1))
    assert [str(run_id) for run_id in ledger.run_ids()] == ["alpha-1", "alpha-2", "beta-1"]
    assert ledger.jobs() == ["alpha", "beta"]
    assert RunId("alpha", 1) not in ledger.open_runs()


def test_what_a_killed_server_had_only_prepared_is_swept(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store)
    store.write("mip/keys/alpha-1-n", b"ciphertext")
    store.write_json("mip/open/alpha-1.json", {"since": "2020-01-01T00:00:00+00:00"})
    ledger.sweep(RunId("alpha", 1))
    assert list(store.list("mip")) == []
    assert ABANDONED_SECONDS >= 600, "a submission that is under way is not swept"
