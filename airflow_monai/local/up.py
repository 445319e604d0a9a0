"""``make up``: the parts of the demo, started and left running, with the words to send a study and to look at it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from airflow_monai.local import study as studies
from airflow_monai.local.demo import CALLED_AET, DAG_ID, ERASED, Demo, DemoOptions, stack_options
from airflow_monai.local.environment import USER
from airflow_monai.local.report import near, shell_example
from airflow_monai.local.runner import choose_runner
from airflow_monai.local.stack import LocalStack, make_state_folder, project_folder


def up(state: Path, *, without: frozenset[str] = frozenset()) -> int:
    """Start the stack and leave it running; returns the exit code."""
    wishes = DemoOptions.from_environment(state)
    say = Demo(wishes).say
    options = stack_options(wishes.pacs)
    if make_state_folder(state.resolve()):
        say(ERASED)
    log = state.resolve() / "logs" / "image.log"
    choice = choose_runner(project_folder() / "examples" / "maps", wishes.runner, log, say)
    say(f"runner: {choice.name} ({choice.reason})")
    studies.phantom(example_study(state.resolve()))
    stack = LocalStack(state, replace(options, runner=choice.name, without=options.without | without), say=say)
    stack.start(fresh=False)
    try:
        if not {"dag-processor", "api-server"} & without:
            stack.wait_for_dag(DAG_ID)
        print(words(stack), flush=True)
        stack.leave_running()
    finally:
        stack.stop()
    return 0


def example_study(state: Path) -> Path:
    """Where there is a study to send."""
    return state / "phantom"


def words(stack: LocalStack) -> str:
    """What to do with a stack that was started, for the terminal."""
    folder = shlex.quote(near(example_study(stack.layout.state)))
    send = f"send {folder} --to 127.0.0.1:{stack.ports.dicom} --called {CALLED_AET}"
    rows = [
        ("Airflow", f"{stack.ui}  (user {USER}, password {stack.secrets.password})"),
        ("send a study", shell_example(stack.layout.shell, send)),
        ("", "that folder holds a phantom; give one of your own instead, or send from any DICOM node"),
        ("events", stack.layout.events),
        ("logs", stack.logs),
        ("archive", stack.layout.archive),
        ("command line", shell_example(stack.layout.shell)),
        ("stop", "make stop; the state stays until the next start, which erases it"),
    ]
    if "pacs" not in stack.options.without:
        rows.insert(3, ("PACS", f"{stack.pacs.kind.value} on port {stack.ports.pacs}"))
    return "\n" + "\n".join(f"  {title:<13} {text}" for title, text in rows)
