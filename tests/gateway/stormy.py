"""Sends during which the gateway is killed again and again, and what must hold then."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread

from airflow_monai.store.payloads import load_payload, run_id_of
from tests.gateway import rawscu
from tests.gateway.conftest import Site, wait_for
from tests.gateway.rawscu import EXPLICIT, RawScu, data_set_of
from tests.gateway.studies import CT, study

CONTEXTS = [(CT, EXPLICIT)]
TAKES_ITS_TIME = """
import time
from airflow_monai.store.intake import Intake
_add = Intake.add
Intake.add = lambda *args, **more: time.sleep(0.03) or _add(*args, **more)
"""
"""Before the code of a gateway that is to be killed in the middle: else that may be over before a busy test sees it."""


@dataclass
class Sent:
    """What a sender knows.

    :param sources: SOP Instance UID -> its data set, for each image of each study.
    :param accepted: those that it was told success for.
    """

    sources: dict[str, bytes] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    kills: int = 0

    def send(self, port: int, files: list[Path]) -> bool:
        """One association; whether all was accepted."""
        with contextlib.suppress(OSError, AssertionError), RawScu(port) as scu:
            scu.associate(contexts=[(CT, EXPLICIT)])
            for file in files:
                scu.send(rawscu.store_file(1, file))
                if scu.status() == 0:
                    self.accepted.add(sop_of(file))
            scu.send(rawscu.RELEASE)
            return scu.receive()[0] == 6
        return False


def sop_of(file: Path) -> str:
    """SOP Instance UID of a file."""
    return str(dcmread(file, specific_tags=[]).file_meta.MediaStorageSOPInstanceUID)


def storm(site: Site, folder: Path, port: int, sends: int, kills: int, seed: int = 1) -> Sent:
    """Send studies; in some of the sends kill the gateway at a random moment and start it again. A sender that was cut
    sends its study again, as they do."""
    chance, sent = random.Random(seed), Sent()
    process = site.process(port)
    to_kill = set(chance.sample(range(sends), kills))
    for number in range(sends):
        files = study(folder / str(number), 4, size=120_000)
        sent.sources |= {sop_of(file): data_set_of(file) for file in files}
        if number in to_kill:
            timer = threading.Timer(chance.uniform(0, 0.12), process.send_signal, [signal.SIGKILL])
            timer.start()
            sent.send(port, files)
            timer.join()
            process.wait()
            sent.kills += 1
            assert_nothing_partial(site, sent)
            process = site.process(port)
        while not sent.send(port, files):
            assert process.poll() is None
    return sent


def assert_nothing_partial(site: Site, sent: Sent) -> None:
    """Whatever is visible is a whole image, as it was sent."""
    for key in site.files():
        with contextlib.suppress(FileNotFoundError):  # moved to the next payload just now
            assert data_set_of(site.store.root / key) == sent.sources[Path(key).stem], key


def assert_all_arrived(site: Site, sent: Sent) -> None:
    """Every success that a sender saw is in a payload, and every payload has got its run once."""
    wait_for(lambda: not list(site.store.children("pending")), 120)
    assert_nothing_partial(site, sent)
    ids = list(site.store.children("payloads"))
    listed = [file.sop_instance_uid for payload_id in ids for file in load_payload(site.store, payload_id).files]
    assert sorted(listed) == sorted(sent.sources)
    assert sent.accepted == set(sent.sources)
    assert set(site.airflow.runs) == {("ct-lung", run_id_of(payload_id)) for payload_id in ids}
    assert not site.unfinished()


def send(port: int, files: list[Path], called: str = "CTLUNG") -> None:
    with RawScu(port) as scu:
        scu.associate(called, contexts=CONTEXTS)
        for file in files:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0


def kill_in_mid_image(site: Site, folder: Path, port: int) -> None:
    """A gateway process takes six images of a study and five of another, and is killed within the next."""
    process = site.process(port)
    first, second = study(folder / "a", 8, size=30_000), study(folder / "b", 5, size=30_000)
    with RawScu(port) as scu:
        scu.associate(contexts=CONTEXTS)
        for file in [*first[:6], *second]:
            scu.send(rawscu.store_file(1, file))
            assert scu.status() == 0
        scu.send(rawscu.store_file(1, first[6])[:20_000])
        wait_for(site.unfinished)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def goes_on_after_the_kill(site: Site, port: int) -> None:
    """Another process makes one run for each of the two studies, with the images that were taken."""
    site.process(port)
    events = site.wait_for_event("run-created", 2, seconds=120)
    assert {len(load_payload(site.store, event["payload_id"]).files) for event in events} == {6, 5}
    assert set(site.airflow.posts.values()) == {1} and len(site.airflow.runs) == 2
    wait_for(lambda: not site.unfinished())
