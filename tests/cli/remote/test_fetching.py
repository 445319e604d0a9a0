"""Where fetched files come to lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_monai.cli.remote.fetching import below
from airflow_monai.errors import MonaiError


def test_no_name_leads_out_of_the_folder(tmp_path: Path) -> None:
    assert below(tmp_path, "a/seg.dcm") == tmp_path / "a" / "seg.dcm"
    for name in ("../x", "a/../../x", "/etc/x", "", "."):
        with pytest.raises(MonaiError, match="elsewhere"):
            below(tmp_path, name)
