"""Where the workflow files of these tests are: ``invalid`` ones have what is expected beside them."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parent


def spec_files(kind: str) -> list[Path]:
    """The workflow files of ``valid`` or ``invalid``."""
    return sorted(path for path in (FIXTURES / kind).iterdir() if path.suffix != ".problems")
