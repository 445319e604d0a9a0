#!/usr/bin/env python3
"""A command line client of the mip job server, in one file. It needs Python 3.9 or newer and requests.

    MIP_USER=anna MIP_PASSWORD=... python mip_client.py --post --url URL --input FILE [--output FILE]
    MIP_USER=anna MIP_PASSWORD=... python mip_client.py --get --url URL [--output FILE]

JSON that is answered is printed, and written to --output; a zip is written to --output. Exit codes: 0 all is well,
1 the server refused, 2 the command line or the input cannot be used, 3 the server cannot be reached, 4 the answer
cannot be used or written.
"""

# ruff: noqa: T201 - a program, which talks to who runs it

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from typing import Any

import requests

OK, REFUSED, MISUSED, UNREACHABLE, UNUSABLE = range(5)
TIMEOUT = (10, 300)
BLOCK = 1 << 20


class Trouble(Exception):
    """What ends the program: its exit code, and what to tell."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """The program; its exit code."""
    try:
        run(parse(arguments))
    except Trouble as trouble:
        print(f"mip_client: {trouble}", file=sys.stderr)
        return trouble.code
    return OK


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line; argparse itself ends the program with 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        prog="mip_client.py", description="Talk to a mip job server. Name and password: MIP_USER, MIP_PASSWORD."
    )
    method = parser.add_mutually_exclusive_group(required=True)
    method.add_argument("--get", action="store_true", help="ask for something")
    method.add_argument("--post", action="store_true", help="send --input, to have modules run")
    parser.add_argument("--url", required=True, help="address, as https://host/monai/mip/runs")
    parser.add_argument("--input", help="JSON file to send (with --post); - for standard input")
    parser.add_argument("--output", help="file that the answer (JSON or zip) is written to")
    options = parser.parse_args(arguments)
    if options.post and not options.input:
        parser.error("--post needs --input")
    if options.get and options.input:
        parser.error("--input goes with --post only")
    return options


def run(options: argparse.Namespace) -> None:
    """Ask, and give the answer.

    :raises Trouble: when something is wrong.
    """
    body = read_input(options.input) if options.post else None
    with send("POST" if options.post else "GET", options.url, body) as answer:
        if not 200 <= answer.status_code < 300:
            raise Trouble(REFUSED, reason(answer))
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            give_json(answer, options.output)
        elif options.output:
            save(answer, options.output)
            print(f"{kind or 'the answer'} written to {options.output}")
        else:
            raise Trouble(MISUSED, f"the answer is {kind or 'no JSON'}: name a file for it with --output")


def read_input(name: str) -> Any:
    """The JSON to send."""
    try:
        if name == "-":
            return json.load(sys.stdin)
        with open(name, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise Trouble(MISUSED, f"{name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Trouble(MISUSED, f"{name} is not JSON: {error}") from None


def send(method: str, url: str, body: Any) -> requests.Response:
    """The answer, whose content has not been read."""
    user, password = os.environ.get("MIP_USER", ""), os.environ.get("MIP_PASSWORD", "")
    try:
        return requests.request(
            method,
            url,
            json=body,
            auth=(user, password) if user else None,
            headers={"Accept": "application/json, application/zip, */*;q=0.1"},
            timeout=TIMEOUT,
            stream=True,
        )
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        raise Trouble(MISUSED, f"{url!r} is no address like https://host/monai/mip/runs") from None
    except requests.RequestException as error:
        raise Trouble(UNREACHABLE, f"the server cannot be reached ({type(error).__name__})") from None


def reason(answer: requests.Response) -> str:
    """Why the server refused, in its own words where it has some (RFC 9457)."""
    told = f"{answer.status_code} {answer.reason}"
    try:
        problem = answer.json()
        lines = [problem["detail"], *(f"{item['field']}: {item['message']}" for item in problem.get("errors", ()))]
    except (ValueError, KeyError, TypeError, requests.RequestException):
        lines = []
    if answer.status_code == 401 and not os.environ.get("MIP_USER"):
        lines.append("MIP_USER and MIP_PASSWORD are not set")
    return "\n  ".join([told, *map(str, lines)])


def give_json(answer: requests.Response, output: str | None) -> None:
    """Print it, and write it."""
    try:
        text = json.dumps(answer.json(), indent=2, ensure_ascii=False)
    except (ValueError, requests.RequestException):
        raise Trouble(UNUSABLE, "the answer is no whole JSON") from None
    print(text)
    if output:
        write(output, [text.encode() + b"\n"])


def save(answer: requests.Response, output: str) -> None:
    """Write it as it comes."""
    try:
        write(output, answer.iter_content(BLOCK))
    except requests.RequestException:
        raise Trouble(UNUSABLE, "the answer broke off; nothing was written") from None


def write(output: str, pieces: Any) -> None:
    """Write a file, whole or not at all."""
    folder = os.path.dirname(os.path.abspath(output))
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".mip-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
            os.chmod(temporary, 0o644 & ~_umask())
            os.replace(temporary, output)
        except BaseException:
            os.unlink(temporary)
            raise
    except requests.RequestException:
        raise
    except OSError as error:
        raise Trouble(UNUSABLE, f"{output} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    sys.exit(main())
