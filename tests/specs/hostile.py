"""Texts that try to crash, to stall or to fill a reader, and a run of all of them in processes with limits."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

EXTRA_MEMORY = 256 * 2**20
"""Address space that a reader may take beyond what it has before it reads."""
MAX_SECONDS = 20

HEAD = {"name": "x", "version": "1", "informatics_gateway": {"ae_title": "A", "export_destinations": ["P"]}}
STUDY = {"input": [{"name": "i", "value": "{{ context.input.dicom }}"}]}


def workflow(tasks: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({**HEAD, **more, "tasks": tasks}).encode()


def router(number: int, *targets: str, **more: Any) -> dict[str, Any]:
    return {"id": f"t{number}", "type": "router", "task_destinations": [{"name": to} for to in targets], **more}


def a_map(task_id: str, **more: Any) -> dict[str, Any]:
    return {"id": task_id, "type": "map", "args": {"map": "x:1"}, "artifacts": STUDY, **more}


def predicate(*conditions: str) -> bytes:
    return workflow([router(0)], predicate=list(conditions))


def nested() -> Iterator[tuple[str, bytes]]:
    yield "brackets", b"[" * 500_000
    yield "blocks", b"".join(b" " * level + b"a:\n" for level in range(1_400))
    yield "dashes", b"- " * 500_000
    yield "questions", b"? " * 500_000
    deep = b'{"a":' * 200 + b"1" + b"}" * 200
    yield "arguments", workflow([a_map("a", args={"map": "x:1", "env_A": "@"})]).replace(b'"@"', deep)
    yield "condition", predicate("(" * 4_000 + "'a' == 'a'" + ")" * 4_000)


def aliases() -> Iterator[tuple[str, bytes]]:
    letters = "abcdefghi"
    yield (
        "alias-bomb",
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n".encode() for before, name in pairwise(letters)
        ),
    )
    keys = b",".join(b"k%d: 1" % number for number in range(2_000))
    merges = b"m%d: {<<: [" + b",".join([b"*a"] * 200) + b"]}\n"
    yield "merge-bomb", b"a: &a {" + keys + b"}\n" + b"".join(merges % number for number in range(100))
    chain = b"a%d: &a%d {<<: *a%d, k%d: 1}\n"
    links = b"".join(chain % (number, number, number - 1, number) for number in range(1, 3_000))
    yield "merge-chain", b"a0: &a0 {x: 1}\n" + links
    yield "merge-of-itself", b"a: &a {<<: *a}"
    yield "anchors", b"".join(b"- &n%d x\n" % number for number in range(28_000))
    yield "one-anchor-many-times", b"a: &a %s\nb: [%s]" % (b"x" * 20_000, b",".join([b"*a"] * 20_000))


def encodings() -> Iterator[tuple[str, bytes]]:
    text = "name: größe\n" * 1_000
    for name in ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7"):
        yield name, text.encode(name)
    yield "nul", b"name: x\0y"
    yield "only-nul", b"\0" * 1_000_000
    yield "two-marks", b"\xef\xbb\xbf\xef\xbb\xbfname: x"
    yield "surrogates", b'{"name": "\\ud800", "tasks": "\\udfff"}'
    yield "directions", workflow([{"id": "t\u202e0", "type": "\u0130router\U0001f600", "description": "\u200b\u2028"}])
    yield "case-of-letters", json.dumps({**HEAD, "\u0130NAME": 1, "na\u017fme": 1, "tasks": [router(0)]}).encode()


def sizes() -> Iterator[tuple[str, bytes]]:
    yield "10-MB", b"# " + b"x" * 10_000_000
    yield "long-name", b"name: " + b"x" * 1_000_000
    yield "long-escapes", b'name: "' + b"\\x41" * 250_000 + b'"'
    yield "long-block", b"a: |\n" + b" x\n" * 300_000
    for name, part in {
        "colons": b": ",
        "keys": b"a: 1\n",
        "quotes": b"'",
        "braces": b"{}",
        "tags": b"!",
        "ands": b"&",
        "stars": b"*",
        "directives": b"%\n",
        "blanks": b" ",
        "lines": b"\n",
        "returns": b"\r",
        "tabs": b"\t",
        "comments": b"#\n",
        "documents": b"---\n",
        "commas": b"[,",
        "backslashes": b'"\\',
    }.items():
        yield f"only-{name}", part * (1_000_000 // len(part))


def numbers() -> Iterator[tuple[str, bytes]]:
    fields = {"timeout_minutes": "@", "retries": "@", "retry_delay": "@"}
    numeric = workflow([router(0, **fields)])
    for name, number in {
        "digits": b"9" * 300_000,
        "fraction": b"0." + b"1" * 300_000,
        "exponent": b"1e999999999",
        "nan": b".nan",
        "infinite": b"-.inf",
        "hex": b"0x" + b"f" * 100_000,
        "arabic": '"١٢"'.encode(),
    }.items():
        yield f"number-{name}", numeric.replace(b'"@"', number)
    yield "memory", workflow([a_map("a", resources={"memory": "9" * 1_000 + "Ti", "cpu": "1e400", "gpu": "1e9"})])
    ordered = f"'{'9' * 199}' > {{{{ context.dicom.series.any('Rows') }}}}"
    yield "condition-digits", predicate(ordered, f"'{'9' * 9_000}' > '1'", "'1e999' > '1'")


def tasks() -> Iterator[tuple[str, bytes]]:
    yield "10000-tasks", workflow([{"id": f"t{number}", "type": "router"} for number in range(10_000)])
    yield "1000-in-a-chain", workflow([*(router(number, f"t{number + 1}") for number in range(999)), router(999)])
    unknown = [router(number, *(f"t{number}{other}" for other in range(3))) for number in range(1_000)]
    yield "unknown-destinations", workflow(unknown)
    yield "bad-ids", workflow([{**router(number, f"no id {number}"), "id": f"no id {number}"} for number in range(999)])
    yield "one-id", workflow([{**router(0, "a"), "id": "a"} for _ in range(999)])
    yield "all-to-all", workflow([router(one, *(f"t{other}" for other in range(80))) for one in range(80)])
    onward = [router(one, *(f"t{other}" for other in range(one + 1, 120))) for one in range(120)]
    yield "all-onward", workflow(onward)
    yield "types", workflow([{**router(number), "type": f"ruoter{number}"} for number in range(999)])
    mapped = [
        a_map(f"t{one}", for_each="series", task_destinations=[{"name": f"t{two}"} for two in range(one + 1, one + 4)])
        for one in range(497)
    ]
    mapped += [a_map(f"t{one}", for_each="series") for one in range(497, 500)]
    yield "for-each", workflow(mapped)
    policy = {f"conection{number}": "rty" for number in range(10)}
    yield "retry-policies", workflow([router(number, retry_policy=policy) for number in range(900)])


def fields() -> Iterator[tuple[str, bytes]]:
    yield "unknown-fields", json.dumps({**HEAD, "tasks": [router(0)], **{f"nam{i}": 1 for i in range(9_000)}}).encode()
    yield "unknown-in-tasks", workflow([router(0, **{f"descripton{i}": 1 for i in range(20)})] * 900)
    yield "twice", b'{"name":"x","name":"y","NAME":"z","tasks":[{"id":"a","id":"b"}],"tasks":[]}'
    yield "twice-often", b"{" + b'"name":"x",' * 60_000 + b'"version":"1"}'
    yield "arguments", workflow([a_map("a", args={f"arg{number}": "x" for number in range(10_000)})])
    yield (
        "misspelled-arguments",
        workflow([a_map(f"a{i}", args={f"mpa{n}": "x" for n in range(20)}) for i in range(300)]),
    )
    outputs = [{"name": f"o{number}"} for number in range(900)]
    inputs = [{"name": f"n{n}", "value": f"{{{{ context.executions.b.artifacts.out{n} }}}}"} for n in range(900)]
    first = a_map("b", artifacts={**STUDY, "output": outputs}, task_destinations=[{"name": "a"}])
    yield "artifacts", workflow([first, a_map("a", artifacts={"input": inputs})])
    yield "many-artifacts", workflow([a_map("a", artifacts={"input": inputs * 3})])
    sinks = [{"name": f"P{number}"} for number in range(900)]
    yield "destinations", workflow([a_map("a", type="export", args={}, export_destinations=sinks)])
    gateway = {"ae_title": "A", "data_origins": ["A\\B"] * 20_000}
    yield "origins", json.dumps({**HEAD, "informatics_gateway": gateway, "tasks": [router(0)]}).encode()
    yield "params", workflow([router(0)], params={f"p{number}": {"type": "numbr"} for number in range(3_000)})
    choices = {"type": "integer", "choices": list(range(20_000))}
    yield "choices", workflow([router(0)], params={"p": choices})
    yield (
        "studies",
        workflow([router(0)], schedule={"cron": "@daily", "select": {"study_instance_uids": ["1"] * 20_000}}),
    )
    yield "cron", workflow([router(0)], schedule={"cron": "*" * 100_000})


def conditions() -> Iterator[tuple[str, bytes]]:
    yield "10000", predicate(*(f"'a{number}' == 'a'" for number in range(10_000)))
    yield "bad", predicate(*(f"'a{number} == 'a'" for number in range(900)))
    attribute = "{{{{ context.dicom.series.any('Seriez{}Description') }}}} == 'a'"
    yield "attributes", predicate(*map(attribute.format, range(900)))
    yield "paths", predicate(*(f"{{{{ context.exec{number}.a.result.b }}}} == 'a'" for number in range(900)))
    yield "brackets", predicate(*[("('a' == 'a' AND " * 49 + "'a'=='a'" + ")" * 49)] * 900)
    yield "ors", predicate(*[" OR ".join(f"'{number}' == 'a'" for number in range(600))] * 60)
    yield "templates", predicate(*["[" + ",".join(["{{ context.workflow.name }}"] * 300) + "] CONTAINS 'a'"] * 100)
    yield "quotes", predicate("'" * 9_999, "{{" * 4_999, "[" * 9_999, "}" * 9_999, "AND " * 2_000)
    warned = {"conditions": ["{{ context.dicom.tags }} == 'a'"] * 10}
    ways = [{**router(n), "task_destinations": [{"name": f"t{n + 1}", **warned}]} for n in range(600)]
    yield "warnings", workflow([*ways, router(600)])
    yield (
        "in-arguments",
        workflow([a_map("a", args={"map": "x:1", "env_A": "{{" * 15_000, "env_B": "{{ a }}" * 4_000})]),
    )


def code(folder: str) -> Iterator[tuple[str, bytes]]:
    """Texts that would leave a file in a folder, were any of them run."""
    touch = f"open('{folder}/ran', 'w')"
    yield "python-tag", f'name: !!python/object/apply:builtins.eval ["{touch}"]'.encode()
    yield (
        "python-name",
        f"name: !!python/name:os.system\nversion: !!python/object/new:os.system ['touch {folder}/ran']".encode(),
    )
    yield (
        "own-tag",
        f"%TAG ! tag:yaml.org,2002:python/object/apply:\n---\nname: !os.system ['touch {folder}/ran']".encode(),
    )
    yield "condition", predicate(f"__import__('os').system('touch {folder}/ran') == ''", f"{touch} == ''")
    yield "template", predicate(f"{{{{ {touch} }}}} == ''", "{{ ''.__class__.__mro__ }} == ''")
    yield "jinja", workflow([a_map("a", args={"map": "x:1", "env_A": f"{{% set x = {touch} %}}{{{{ {touch} }}}}"})])
    yield "paths", workflow([a_map("../../a", args={"map": "../../etc/passwd"})], **{"$schema": "file:///etc/passwd"})


GROUPS: Mapping[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    group.__name__: group for group in (nested, aliases, encodings, sizes, numbers, tasks, fields, conditions)
}


def cases(folder: str) -> Iterator[tuple[str, bytes]]:
    """Every case by its name."""
    for group, make in {**GROUPS, "code": lambda: code(folder)}.items():
        for name, data in make():
            yield f"{group}/{name}", data


def read(data: bytes) -> dict[str, Any]:
    """What the reader says of one text, and the seconds of a processor that it took."""
    from airflow_monai.specs import check_text, plan_of

    started = time.process_time()
    spec, problems = check_text(data, "x.json" if data[:1] in (b"{", b"[") else "x.yaml")
    shown = sum(len(str(problem)) for problem in problems)
    if spec is not None:
        plan_of(spec)
    seconds = time.process_time() - started
    return {"loads": spec is not None, "problems": len(problems), "seconds": seconds, "shown": shown}


def read_within_limits(data: bytes) -> dict[str, Any]:
    """The same in a process of its own, which cannot take more memory or time than it may."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + EXTRA_MEMORY, taken + EXTRA_MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
        os.write(there, json.dumps(read(data)).encode())
        os._exit(0)
    os.close(there)
    with os.fdopen(here, "rb") as answer:
        told = answer.read()
    _, status = os.waitpid(child, 0)
    return {**(json.loads(told) if told else {}), "exit": status}


def main() -> None:
    read(b"{}")  # imports, once
    for name, data in cases(sys.argv[1]):
        told = read_within_limits(data)
        if told.get("seconds", 0) > 0.9:  # a second chance on a busy machine
            told = min(told, read_within_limits(data), key=lambda item: item.get("seconds", 99))
        print(json.dumps({"name": name, **told}), flush=True)


if __name__ == "__main__":
    main()
