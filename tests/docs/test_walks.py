"""What a page has its reader type is typed by tests/e2e/test_walks.py."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.e2e.walks import DOCS, Walk

PAGES = ("app-server.md", "workflow-manager.md", "notifications.md", "workload-manager.md", "api.md")
NO_PART_OF_ONE = ("$CALLBACK_URL", "/resend")  # of somebody else's server; typed in test_specs_live.py


@pytest.mark.parametrize("page", PAGES)
def test_every_request_of_a_page_is_part_of_its_walk(page: str) -> None:
    blocks = re.findall(r"^```(?:bash|console)\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    asked = sum("curl -s" in block and not any(words in block for words in NO_PART_OF_ONE) for block in blocks)
    steps = Walk.of(page).steps
    assert asked == sum("curl -s" in step for step in steps) > 0
    done = subprocess.run(["bash", "-n"], input="\n".join(steps), capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_an_error_is_never_kept_as_the_file_that_was_asked_for(page: str) -> None:
    asked = re.findall(r"^(?:\$ )?curl (.*(?:\\\n.*)*)", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    kept = [words for words in asked if re.search(r" (-o|--output|-O) ", words)]
    assert [words for words in kept if not re.match(r"-sf", words)] == []
