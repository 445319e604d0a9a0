from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_monai.maps import logs
from airflow_monai.maps.logs import MASK, LogFilter, StoredLog, TaskLog
from airflow_monai.maps.runners.lines import MAX_LINE_BYTES, LineSplitter
from airflow_monai.types import PatientDetails, Payload


def payload(name: str = "Müller^Änne Marie=X", patient_id: str = "HOSP-4711") -> Payload:
    patient = PatientDetails(id=patient_id, name=name, dob="19560417")
    return Payload("p", "1.2.3", "AE", (), 0, (), "", "", "", patient)


FILTER = LogFilter(payload(), {"1.2": {"00080050": ["ACC-99"], "00080090": ["House^Gregory"], "00080060": ["CT"]}})


@pytest.mark.parametrize(
    "line",
    [
        "patient MÜLLER^ÄNNE",
        "processing müller",
        "Änne Marie is next",
        "id=HOSP-4711;",
        "/tmp/hosp-4711_seg.nii",
        "born 19560417",
        "born 1956-04-17",
        "geboren am 17.04.1956",
        "accession ACC-99",
        "referred by Dr House",
        "another patient: Doe^John^^^",
        "StudyDate 20250131",
    ],
)
def test_what_may_be_about_the_patient_is_masked(line: str) -> None:
    shown = FILTER(line)
    assert MASK in shown
    for secret in ("müller", "änne", "4711", "1956", "acc-99", "house", "doe", "2025"):
        assert secret not in shown.lower()


@pytest.mark.parametrize(
    "line",
    [
        "epoch 3/10 loss 0.123",
        "volume 1234.5 ml in 60 slices of 512 x 512",
        "    ~~~~^^^^^",
        "CUDA 12.4, torch 2.5.1",
        "ADDRESS 0x7f2019 of 20480 MiB",
        "modality CT",
    ],
)
def test_ordinary_lines_stay_as_they_are(line: str) -> None:
    assert FILTER(line) == line


def test_control_characters_and_long_lines_are_tamed() -> None:
    assert FILTER("\x1b[31mred\x1b[0m\ttab") == " [31mred [0m  tab"
    assert len(FILTER("word " * 20_000)) < 1100


HOSTILE = ["x" * 16_000, "x" * 990 + "^", "a." * 8000, "x^" * 8000, "1" * 16_000, " " * 16_000]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_lines_cost_no_time(hostile: str) -> None:
    begun = time.thread_time()
    for _ in range(20):
        FILTER(hostile)
    assert time.thread_time() - begun < 1


def test_long_line_is_cut_between_words() -> None:
    line = "x" * 985 + " patient Müller^Änne"
    assert "M" not in FILTER(line)


def test_patient_without_details_masks_what_looks_like_them() -> None:
    plain = LogFilter(Payload("p", "1", "AE", (), 0, (), "", "", ""))
    assert plain("Doe^Jane here") == f"{MASK} here"


def test_short_names_are_masked_as_words_only() -> None:
    short = LogFilter(payload("Li^Bo", "42"))
    assert short("Li has 42 slices") == f"{MASK} has {MASK} slices"
    assert short("Linear 1426") == "Linear 1426"


DOE = LogFilter(
    Payload("p", "1", "AE", (), 0, (), "", "", "", PatientDetails(id="AB-12345", name="DOE^JOHN", dob="19700131")),
    {"1.2": {"00101000": ["4711"], "00100010": ["DOE^JOHN"]}},
)


@pytest.mark.parametrize(
    "line",
    [
        "processing DOE_JOHN.dcm",
        "/in/DOE_JOHN_4711/1.dcm",
        "pid4711 loaded",
        "JohnDoe",
        "doe, john",
        "ab_12345",
        "AB12345.nii",
        "AB 12345",
        "31 Jan 1970",
        "31.Januar 1970",
        "31 de enero de 1970",
        "31st of January, 1970",
        "January 31st, 1970",
        "1970-Jan-31",
        "31JAN70",
        "700131",
        "310170.txt",
        "31.1.70",
        "01/31/70",
        "1970 1 31",
        "1970_01_31",
        "1970年1月31日",
    ],
)
def test_however_it_is_written(line: str) -> None:
    shown = DOE(line).lower()
    assert MASK in shown
    for secret in ("doe", "john", "4711", "12345", "1970", "70", "31", "jan", "ene"):
        assert secret not in shown


@pytest.mark.parametrize("line", ["Nov 7, 1943", "7th November 1943", "1943-Nov-07", "12may1943"])
def test_dates_of_others_with_the_name_of_the_month(line: str) -> None:
    assert DOE(f"seen {line}.") == f"seen {MASK}."


@pytest.mark.parametrize(
    "line",
    ["slices 1 to 31 of 70", "done in 13170 ms", "does not", "14711 voxels", "may 70 percent", "step 31 marked 2000"],
)
def test_what_only_resembles_it_stays(line: str) -> None:
    assert DOE(line) == line


@pytest.mark.parametrize("line", ["山田 太郎 loaded", "山田さん", "山田太郎.dcm", "やまだ", "yamada"])
def test_every_group_of_a_name_is_masked(line: str) -> None:
    tags = {"1.2": {"00100010": ["Yamada^Tarou"], "00100010=": ["山田^太郎", "やまだ^たろう"]}}
    shown = LogFilter(payload("Yamada^Tarou"), tags)(line)
    assert MASK in shown
    assert not set(shown) & set("山田太郎やまだ") and "yamada" not in shown


@pytest.mark.parametrize("written", [b"M\xdcLLER", "Mu\u0308ller".encode(), b"MUELLER", b"muller", "Müller".encode()])
def test_accents_in_any_form_or_encoding(written: bytes) -> None:
    shown: list[str] = []
    TaskLog("filtered", FILTER, shown.append, "x").line(b"see " + written + b".nii")
    assert shown == [f"see {MASK}.nii"]


HOSTILE_NAMES = ["ü-" * 32, "å" * 64, "é^" * 32, "a1" * 32, "ø=" * 30, "^".join("ab" for _ in range(20))]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_hostile_names_cost_no_time(name: str) -> None:
    hostile = LogFilter(payload(name, name))
    begun = time.thread_time()
    for line in ("\ufffd" * 1000, "u-" * 500, "ue" * 500, "a" * 1000, "\ufffd-" * 500, "a1 " * 330, "ab " * 330):
        hostile(line + "!")
    assert time.thread_time() - begun < 1


def shown_by(mode: str, lines: list[bytes], *, failed: bool = False) -> list[str]:
    shown: list[str] = []
    log = TaskLog(mode, FILTER, shown.append, "payloads/p/g1.log")
    for line in lines:
        log.line(line)
    log.close(failed=failed)
    return shown


def test_modes_of_the_task_log() -> None:
    lines = [b"one", b"Doe^Jane", b"\xff\xfe"]
    assert shown_by("filtered", lines) == ["one", MASK, "\ufffd"]
    assert shown_by("tail", lines) == []
    assert shown_by("tail", lines, failed=True)[1:] == ["one", MASK, "\ufffd"]
    assert shown_by("none", lines, failed=True) == []


def test_flood_is_cut_and_says_where_the_rest_is() -> None:
    shown = shown_by("filtered", [b"line %d" % number for number in range(5000)], failed=True)
    assert len(shown) < logs.MAX_TASK_LINES + logs.TAIL_LINES + 10
    assert any("payloads/p/g1.log" in line and "left out" in line for line in shown)
    assert shown[-1] == "line 4999"


def test_stored_log_has_every_byte_and_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "task" / "g1.log"
    older = StoredLog(path)
    older.line(b"from the first try")
    newer = StoredLog(path)
    older.line(b"the orphan still writes")
    newer.line(b"\xff whole")
    newer.close()
    older.close()
    assert path.read_bytes() == b"\xff whole\n"


def test_stored_log_is_bounded_and_has_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 100)
    monkeypatch.setattr(logs, "STORED_TAIL_LINES", 5)
    log = StoredLog(tmp_path / "g1.log")
    for number in range(100):
        log.line(b"line %04d" % number)
    log.close()
    log.close()
    lines = (tmp_path / "g1.log").read_text().splitlines()
    assert lines[:9] == [f"line {number:04}" for number in range(9)]
    assert "longer than 100 bytes; 860 bytes are left out here" in lines[9]
    assert lines[10:] == [f"line {number:04}" for number in range(95, 100)]


def test_only_owner_and_group_may_read_the_whole_log(tmp_path: Path) -> None:
    StoredLog(tmp_path / "g1.log").close()
    assert (tmp_path / "g1.log").stat().st_mode & 0o777 & ~0o640 == 0


def test_a_flood_costs_little_and_its_last_words_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of a log of a gigabyte, with a twentieth of the bound."""
    monkeypatch.setattr(logs, "MAX_LOG_BYTES", 256 * 1024**2 // 20)
    shown: list[str] = []
    stored, task = StoredLog(tmp_path / "g1.log"), TaskLog("filtered", FILTER, shown.append, "g1.log")

    def on_line(line: bytes) -> None:
        stored.line(line)
        task.line(line)

    splitter = LineSplitter(on_line)
    chunk = b"an ordinary line of an application that talks too much\n" * 1000
    begun = time.thread_time()
    for _ in range(1024**3 // 20 // len(chunk)):
        splitter.feed(chunk)
    splitter.feed(b"out of ideas for Doe^Jane\n")
    splitter.close()
    stored.close()
    task.close(failed=True)
    assert time.thread_time() - begun < 20
    size = (tmp_path / "g1.log").stat().st_size
    assert size < logs.MAX_LOG_BYTES + logs.STORED_TAIL_BYTES + 1000
    assert (tmp_path / "g1.log").read_bytes().endswith(b"out of ideas for Doe^Jane\n")
    assert shown[-1] == f"out of ideas for {MASK}" and len(shown) < logs.MAX_TASK_LINES + 100


def test_lines_come_whole_from_any_chunks() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    for chunk in (b"a", b"b\nc", b"\r\n\n", b"x" * (MAX_LINE_BYTES + 1), b"\nend"):
        splitter.feed(chunk)
    splitter.close()
    assert lines[:3] == [b"ab", b"c", b""]
    assert [len(line) for line in lines[3:5]] == [MAX_LINE_BYTES, 1]
    assert lines[-1] == b"end"


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"\r 10%|a", b"\r 20%|b\r", b"\n"], [b" 10%|a\r", b" 20%|b"]),
        ([b"a\r", b"b\r", b"c\n"], [b"a\r", b"b\r", b"c"]),
        ([b"x\r\r\n", b"a\r\r\rb"], [b"x", b"a\r", b"b"]),
        ([b"a\r", b"\nb\r"], [b"a", b"b"]),
        ([b"x" * MAX_LINE_BYTES + b"y\rz"], [b"x" * MAX_LINE_BYTES, b"y\r", b"z"]),
    ],
)
def test_a_bar_that_overwrites_itself_comes_piece_by_piece(chunks: list[bytes], expected: list[bytes]) -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.append)
    for chunk in chunks:
        splitter.feed(chunk)
    splitter.close()
    assert lines == expected


@pytest.mark.parametrize("hostile", [b"\r" * 65536, b"\r" * 65535 + b"x", b"\r\n" * 32768, b"\rx" * 32768])
def test_hostile_line_ends_cost_no_time(hostile: bytes) -> None:
    splitter = LineSplitter(lambda _: None)
    begun = time.thread_time()
    for _ in range(5):
        splitter.feed(hostile)
    splitter.close()
    assert time.thread_time() - begun < 2


def test_a_bar_does_not_flood_the_task_log_and_stays_whole_in_the_store(tmp_path: Path) -> None:
    bar = b"".join(b"\r%3d%%|####    | %d/100" % (number, number) for number in range(101)) + b"\n"
    shown: list[str] = []
    stored, task = StoredLog(tmp_path / "g1.log"), TaskLog("filtered", FILTER, shown.append, "g1.log")

    def on_line(line: bytes) -> None:
        stored.line(line)
        task.line(line)

    splitter = LineSplitter(on_line)
    splitter.feed(b"why it failed\n" + bar)
    splitter.close()
    stored.close()
    task.close(failed=True)
    assert shown == ["why it failed", "  0%|####    | 0/100", "100%|####    | 100/100"]
    assert (tmp_path / "g1.log").read_bytes() == b"why it failed\n" + bar.removeprefix(b"\r")
