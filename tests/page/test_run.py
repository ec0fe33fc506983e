"""The page as a process: what it says, and that a signal ends it in order."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from http.client import HTTPConnection
from typing import Any

import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.overview import runs_of
from entrenar_otel.page.settings import PageSettings
from entrenar_otel.web.address import Address
from tests.page.conftest import Cli, record


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_until_a_signal(lake: Lake, number: int) -> None:
    program = "from entrenar_otel.cli.main import main; main()"
    command = [sys.executable, "-c", program, "--lake", "lake", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        told = re.fullmatch(
            r"entrenar: (http://127\.0\.0\.1:\d+/) shows the runs of (.*/lake); Ctrl-C ends it\n", line
        )
        assert told, line
        with urllib.request.urlopen(f"{told[1]}api/runs", timeout=120) as answer:
            assert len(json.load(answer)["runs"]) == 3
        process.send_signal(number)
        assert (process.wait(120), process.stderr.read()) == (0, "")


def test_a_restart_asks_nobody_again(lake: Lake) -> None:
    """Who has logged in by a browser looks on, until the token is another one."""
    program = "from entrenar_otel.cli.main import main; main()"
    command = [sys.executable, "-c", program, "--lake", "lake", "serve", "--port", "0"]
    cookie, seen = "", []
    for token in ("first", "first", "second"):
        environ = {**os.environ, "ENTRENAR_PAGE_TOKEN": token}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ) as process:
            assert process.stderr is not None
            port = int(process.stderr.readline().split("127.0.0.1:")[1].partition("/")[0])
            connection = HTTPConnection("127.0.0.1", port, timeout=120)
            if not cookie:
                connection.request("POST", "/login", f"token={token}")
                cookie = str(connection.getresponse().headers["Set-Cookie"]).partition(";")[0]
                connection = HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("GET", "/api/about", headers={"Cookie": cookie})
            seen.append(connection.getresponse().status)
            process.terminate()
    assert seen == [200, 200, 401]


def test_where_it_does_not_begin(cli: Cli, lake: Lake) -> None:
    away = cli("serve", "--host", "0.0.0.0")
    assert (away.code, "set ENTRENAR_PAGE_TOKEN" in away.err.replace("\n", " ")) == (2, True)
    missing = cli("--lake", "nowhere", "serve")
    assert missing.code != 0
    assert "nowhere" in missing.err


def test_the_address_that_others_are_told() -> None:
    """Not one that stands for all of this machine's, which leads each to a machine of their own."""
    everywhere = PageSettings(Address("0.0.0.0", 8642), token="x", certfile="c.pem")
    assert everywhere.url == f"https://{socket.gethostname()}:8642/"
    assert PageSettings(Address("::", 8642), insecure=True).url == f"http://{socket.gethostname()}:8642/"
    assert PageSettings(Address("::1", 1)).url == "http://[::1]:1/"


def test_records_that_are_known_say_the_same(lake: Lake) -> None:
    """The list from records that were read already is that of the query, a run that goes on included."""
    record("going", ends=False)

    def listed(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**run, "argv": [*run["argv"]]} for run in runs]

    assert listed(runs_of(lake, lake.runs())) == listed(runs_of(lake))
