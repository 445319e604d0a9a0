"""The receiver under attack, for long: CHAOS_SENDS, CHAOS_KILLS, CHAOS_TOO_LARGE (bytes), CHAOS_CUTS, CHAOS_ROUNDS."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from airflow_monai.gateway.dicom.settings import DicomOptions
from airflow_monai.store.payloads import load_payload
from tests.chaos.conftest import amount, report
from tests.conftest import require
from tests.gateway import rawscu
from tests.gateway.conftest import Site, airflow, site, wait_for, write_workflow  # noqa: F401
from tests.gateway.dicom.test_limits import send_too_large
from tests.gateway.rawscu import EXPLICIT, RawScu, data_set_of
from tests.gateway.stormy import Sent, assert_all_arrived, assert_nothing_partial, sop_of, storm
from tests.gateway.studies import CT, storescu, study

CONTEXTS = [(CT, EXPLICIT)]


def test_kill_9_during_many_sends(site: Site, tmp_path: Path, free_port: int) -> None:  # noqa: F811
    sends, kills = amount("CHAOS_SENDS", 100), amount("CHAOS_KILLS", 30)
    sent = storm(site, tmp_path / "in", free_port, sends, kills, amount("CHAOS_SEED", 1))
    assert_all_arrived(site, sent)
    payloads = len(list(site.store.children("payloads")))
    report(
        f"""{sends} studies sent, the gateway killed in {sent.kills} of the sends: {len(sent.accepted)} images accepted,
        all of them in {payloads} payloads, each with one run; no partial file was ever visible."""
    )


def test_a_file_of_ten_gigabytes(site: Site) -> None:  # noqa: F811
    size = amount("CHAOS_TOO_LARGE", 10 * 10**9)
    gateway = site.gateway(dicom=DicomOptions(max_file=10**9))
    before = shutil.disk_usage(site.folder).free
    send_too_large(site, gateway.port, size, most=1_001_000_000)
    report(
        f"""A data set of {size} bytes against dicom_max_file = 1 GB: refused (A700) after it was read to its end; free
        space before and after differs by {abs(before - shutil.disk_usage(site.folder).free) // 10**6} MB."""
    )


def test_associations_cut_at_random_bytes(site: Site, tmp_path: Path) -> None:  # noqa: F811
    cuts, chance = amount("CHAOS_CUTS", 2000), random.Random(amount("CHAOS_SEED", 1))
    write_workflow(site.workflows, quiet=600)
    gateway = site.gateway()
    files = study(tmp_path / "in", 3, size=60_000)
    sent = Sent({sop_of(file): data_set_of(file) for file in files})
    whole = rawscu.associate("CTLUNG", "RAW", CONTEXTS) + b"".join(rawscu.store_file(1, file) for file in files)
    for number in range(cuts):
        with RawScu(gateway.port) as scu:
            scu.send(whole[: chance.randrange(len(whole))])
        if number % 100 == 0:
            assert_nothing_partial(site, sent)
    wait_for(lambda: not site.unfinished())
    assert sent.send(gateway.port, files)
    assert_nothing_partial(site, sent)
    assert len(site.files()) == 3
    report(f"{cuts} associations cut at a random byte: nothing partial was visible, nothing was left behind.")


def test_random_bytes_in_the_middle_of_an_association(site: Site, tmp_path: Path) -> None:  # noqa: F811
    """PDUs with damaged bytes at random places: whatever they do, the next sender is served, and what is visible is
    whole, though it may be an image that the damage made."""
    rounds, chance = amount("CHAOS_CUTS", 2000), random.Random(amount("CHAOS_SEED", 2))
    gateway = site.gateway(dicom=DicomOptions(idle_seconds=0.2, artim_seconds=0.2))
    (file,) = study(tmp_path / "in", 1, size=4_000)
    whole = rawscu.associate("CTLUNG", "RAW", CONTEXTS) + rawscu.store_file(1, file)

    def attack(_: int) -> None:
        damaged = bytearray(whole)
        for _ in range(chance.randrange(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with RawScu(gateway.port) as scu:
            try:
                scu.send(bytes(damaged))
                scu.ends()
            except OSError:
                pass  # it was ended before all was sent

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(attack, range(rounds)))
    wait_for(lambda: not site.unfinished())
    assert Sent().send(gateway.port, [file])
    report(f"{rounds} associations with damaged bytes: each ended, and a sender afterwards was served.")


def test_a_study_of_one_and_one_of_three_thousand_images(site: Site, tmp_path: Path) -> None:  # noqa: F811
    count = amount("CHAOS_IMAGES", 3000)
    write_workflow(site.workflows, quiet=2.0)
    gateway = site.gateway()
    sent = Sent()
    for size in (1, count):
        assert sent.send(gateway.port, study(tmp_path / str(size), size, size=33_000))
    sizes = sorted(
        len(load_payload(site.store, event["payload_id"]).files)
        for event in site.wait_for_event("run-created", 2, seconds=120)
    )
    assert sizes == [1, count]
    report(f"Studies of 1 and of {count} images: one payload and one run each.")


def test_nothing_is_lost_in_many_rounds_of_senders_at_once(site: Site, tmp_path: Path) -> None:  # noqa: F811
    """Small and large images, 1 and 4 senders, by dcmtk: every image that was sent is there, with its own bytes."""
    require("dcmtk")
    rounds, images = amount("CHAOS_ROUNDS", 20), amount("CHAOS_ROUND_IMAGES", 50)
    write_workflow(site.workflows, quiet=3600)
    for processes in (1, 2):
        gateway = site.gateway(dicom=DicomOptions(processes=processes))
        for number in range(rounds):
            for senders, size in ((1, 33_000), (4, 33_000), (1, 526_000), (4, 526_000)):
                folder = tmp_path / f"{processes}-{number}-{senders}-{size}"
                studies = [study(folder / str(sender), images, size=size) for sender in range(senders)]
                sources = {sop_of(file): data_set_of(file) for files in studies for file in files}
                with ThreadPoolExecutor(senders) as pool:
                    sent = list(pool.map(lambda files: storescu(gateway.port, files), studies))  # noqa: B023
                assert [result.returncode for result in sent] == [0] * senders
                found = {Path(key).stem: data_set_of(site.store.root / key) for key in site.files()}
                assert found == sources
                shutil.rmtree(folder)
                shutil.rmtree(site.store.root / "payloads")
        gateway.stop(5)
    report(f"{rounds} rounds x 1 and 4 senders x 33 and 526 kB x 1 and 2 processes: no image lost or changed.")
