"""What commands print."""

from __future__ import annotations

import io

from airflow_monai.cli.printing import print_facts, print_rows


def test_facts_and_rows_say_what_there_is_and_steer_no_terminal() -> None:
    out = io.StringIO()
    print_facts(
        {
            "name": "a\x1b[2J", "is_there": True, "WhoIs": "b", "none": None, "empty": "", "zero": 0, "list": ["b", 1],
            "deep": {"er": {"down": 2}}, "rows": [{"x": 1}],
        },
        out,
    )  # fmt: skip
    print_rows([{"a_b": None, "TaskId": ["x", "y"]}], ("a_b", "TaskId"), out)
    assert out.getvalue().splitlines() == [
        "name: a?[2J", "is there: yes", "who is: b", "zero: 0", "list: b, 1", "deep.er.down: 2",
        "A B  TASK ID", "     x, y",
    ]  # fmt: skip
