"""What a provider stands on is loaded before it is opened, in a thread that holds nobody up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dspy_actors.lm.transports.tls import Trust
from tests.server.client import StubServer

OWN = Path(__file__).parents[1] / "data" / "tls"

FIRST_CALL = """
import asyncio, sys
from importlib.abc import MetaPathFinder

class Watch(MetaPathFinder):
    on_a_loop = []

    def find_spec(self, name, path, target=None):
        if asyncio._get_running_loop() is not None:
            self.on_a_loop.append(name)

from dspy_actors import LM, Predict, Runtime
sys.meta_path.insert(0, Watch())
with Runtime(LM("openai/m", base_url=sys.argv[1], api_key="sk-none-0123456789"), transport=sys.argv[2]):
    Predict("question -> answer")(question="q")
print(*(name for name in Watch.on_a_loop if name.partition(".")[0] in ("aiohttp", "httpx", "httpcore", "h11", "anyio")))
print(*(name for name in ("aiohttp", "httpx", "h11") if name in sys.modules))
"""


@pytest.mark.parametrize("transport", ["aiohttp", "httpx", "h11"])
def test_the_first_call_loads_no_http_client_on_a_loop(transport: str, stub: StubServer) -> None:
    command = [sys.executable, "-c", FIRST_CALL, stub.base_url, transport]
    on_a_loop, loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert on_a_loop == ""
    assert transport in loaded.split()


def test_the_first_call_loads_no_http_client_on_a_loop_where_the_direct_transport_gives_way_to_a_proxy(
    stub: StubServer,
) -> None:
    tolerant = FIRST_CALL.replace("    Predict(", "    with suppress(Exception): Predict(")  # the stub is no proxy
    code = f"from contextlib import suppress\n{tolerant}"
    command = [sys.executable, "-c", code, "http://model.invalid/v1", "h11"]
    environment = {**os.environ, "http_proxy": stub.base_url, "no_proxy": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    on_a_loop, loaded = done.stdout.splitlines()

    assert on_a_loop == ""
    assert "httpx" in loaded.split()


def test_the_transports_of_one_runtime_share_their_cas() -> None:
    trust = Trust()
    assert trust.context("https://one.invalid/v1") is trust.context("https://two.invalid/v1")


def test_cas_whose_file_was_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shutil.copy(OWN / "cert.pem", tmp_path / "cas.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    trust = Trust()
    before = trust.context("https://one.invalid/v1")
    os.utime(file, (1.0, 1.0))

    assert trust.context("https://one.invalid/v1") is not before


def test_a_context_for_plain_http_trusts_nobody() -> None:
    assert Trust().context("http://localhost:8000/v1").get_ca_certs() == []


def test_an_opener_loads_no_client_for_a_model_without_a_network() -> None:
    code = (
        "import sys\n"
        "from dspy_actors.lm.providers.base import LMConfig\n"
        "from dspy_actors.lm.providers.opening import opener\n"
        "from dspy_actors.lm.providers.set_aside import SetAside\n"
        "opener('auto', SetAside()).load(LMConfig('embedded', 'knn'))\n"
        "print(*{'httpx', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"httpx", "aiohttp"} & set(done.stdout.split())
