"""deploy/ fits the product: its commands and settings exist, its ports and limits agree, the image has what it needs.

That docker builds and runs it is not tested: no docker here.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands
from django.urls import reverse

from tests.databases import ROOT
from tests.environment import without_settings

DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
UNITS = sorted((DEPLOY / "systemd").iterdir())
#: Of the images themselves.
NOT_OURS = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD", "PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def settings_known() -> set[str]:
    return set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_setting_that_is_named_is_one(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assigned = set(re.findall(r"\b([A-Z][A-Z_]{2,})(?:=|: |:\?|\})", text)) | set(re.findall(r"OPSCHAT_[A-Z_]+", text))
    shouted = {"CMD", "ENV", "COPY", "FROM", "RUN", "ALL", "CMD-SHELL", "EPERM"}
    assert assigned - NOT_OURS - shouted <= settings_known()


# -- The image -------------------------------------------------------------------------------------------------------


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    return re.findall(r"^COPY (\S+) \S+$", text_of("Dockerfile"), re.MULTILINE)


def test_the_product_starts_from_what_the_image_takes(tmp_path: Path) -> None:
    for name in copied():
        source, target = ROOT / name, tmp_path / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    script = (
        "from django.core.management import execute_from_command_line as run\n"
        "for words in ('check --fail-level WARNING', 'migrate -v0', 'findstatic -v0 conversations/opschat.js'):\n"
        "    run(['manage.py', *words.split()])"
    )
    variables = {"OPSCHAT_DATA_DIR": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "opschat.settings"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "app", env={**without_settings(os.environ), **variables},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_image_is_given_nothing_else() -> None:
    allowed = re.findall(r"^!(.+)$", text_of("Dockerfile.dockerignore"), re.MULTILINE)
    assert sorted(allowed) == sorted(copied())
    assert "\n*\n" in text_of("Dockerfile.dockerignore")


def test_the_image_installs_wheels_of_the_lock_by_their_hashes() -> None:
    (install,) = re.findall(r"pip --python \S+ install (.+?)\nCOPY", text_of("Dockerfile"), re.DOTALL)
    options = set(install.replace("\\\n", " ").split())
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:", "requirements.lock"} <= options


def test_the_image_is_of_a_python_that_ci_tests() -> None:
    pythons = set(re.findall(r"^FROM python:(\d+\.\d+)-slim", text_of("Dockerfile"), re.MULTILINE))
    tested = re.findall(r'"(3\.\d+)"', (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert len(pythons) == 1
    assert pythons <= set(tested)


def test_the_image_runs_as_nobody_in_particular() -> None:
    final = text_of("Dockerfile").split("\nFROM ")[-1]
    assert "\nUSER 10001:10001\n" in final
    assert final.index("USER ") < final.index("HEALTHCHECK ") < final.index("ENTRYPOINT ")


# -- Commands, ports and limits --------------------------------------------------------------------------------------


def commands_of(text: str) -> list[str]:
    """Of systemd units, of the services of compose.yaml and of the image itself."""
    units = re.findall(r"^ExecStart=.* manage\.py (\w+)", text, re.MULTILINE)
    return [*units, *re.findall(r'^ *(?:command: |CMD )\["(\w+)"(?:, "--server", "uvicorn")?\]$', text, re.MULTILINE)]


def test_every_command_exists() -> None:
    found = [command for path in FILES for command in commands_of(path.read_text(encoding="utf-8"))]
    assert sorted(set(found)) == ["migrate", "serve", "worker"]
    assert set(found) <= get_commands().keys()


def test_every_part_is_there_twice() -> None:
    services = re.findall(r"^  (\w+):$", text_of("compose.yaml").split("\nservices:\n")[1], re.MULTILINE)
    assert {"web1", "web2", "worker1", "worker2", "migrate", "proxy", "postgres", "valkey"} <= set(services)


def test_the_proxy_finds_the_servers() -> None:
    port = re.search(r"PORT=(\d+)", text_of("Dockerfile"))
    assert port is not None
    assert re.findall(r"server (\S+) ", text_of("nginx/upstream-compose.conf")) == [
        f"{name}:{port[1]}" for name in ("web1", "web2")
    ]
    documented = set(re.findall(r"opschat-web@(\d+)", (ROOT / "docs/operations.md").read_text(encoding="utf-8")))
    assert documented == set(re.findall(r"127\.0\.0\.1:(\d+) ", text_of("nginx/upstream-systemd.conf")))


def test_the_servers_believe_the_proxy_and_nobody_else() -> None:
    compose = text_of("compose.yaml")
    addresses = re.findall(r"^  (\w+):\n(?:(?!^  \w).*\n)*?        ipv4_address: (\S+)$", compose, re.MULTILINE)
    (subnet,) = re.findall(r"subnet: (\S+)", compose)
    assert re.findall(r"OPSCHAT_TRUSTED_PROXIES: (\S+)", compose) == [dict(addresses)["proxy"]]
    assert all(ipaddress.ip_address(address) in ipaddress.ip_network(subnet) for _, address in addresses)
    assert len({address for _, address in addresses}) == 3
    # Not what the client says of itself.
    assert "proxy_set_header X-Forwarded-For   $remote_addr;" in text_of("nginx/opschat.conf")


def test_the_proxy_takes_as_long_a_body_as_the_servers() -> None:
    limits = re.findall(r"client_max_body_size (\d+)k;", text_of("nginx/opschat.conf"))
    assert [int(limit) * 1024 for limit in limits] == [settings.DATA_UPLOAD_MAX_MEMORY_SIZE]


def test_the_proxy_takes_as_long_a_file_as_the_servers_where_they_take_one() -> None:
    text = text_of("nginx/opschat.conf")
    ((address, most),) = re.findall(r"location = (\S+) \{\s+client_max_body_size (\d+)m;", text)
    assert address == reverse("admin:inventory_asset_import")
    # And room for the rest of the form.
    assert int(most) * 1024**2 == settings.OPSCHAT_MAX_UPLOAD + 1024**2
    assert f"more than {settings.OPSCHAT_MAX_UPLOAD // 1024**2} MB" in text


def test_the_workers_metrics_are_asked_where_they_are() -> None:
    compose = text_of("compose.yaml")
    assert set(re.findall(r'OPSCHAT_METRICS_PORT: "(\d+)"', compose)) == set(re.findall(r":(\d+)/metrics", compose))


def test_postgres_has_room_for_every_pool() -> None:
    compose = text_of("compose.yaml")
    (most,) = re.findall(r'"max_connections=(\d+)"', compose)
    n_processes = len(re.findall(r"^  (?:web|worker)\d:$", compose, re.MULTILINE))
    (size,) = re.findall(r'"max_size": (\d+)', (ROOT / "opschat/settings.py").read_text(encoding="utf-8"))
    assert int(most) >= n_processes * (int(size) + 2) + 10


@pytest.mark.parametrize("path", [path for path in UNITS if "migrate" not in path.name], ids=lambda path: path.name)
def test_a_unit_comes_back_and_is_given_time_to_stop(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "\nRestart=always\n" in text
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(timeout) > 10
    assert "\nKillMode=mixed\n" in text


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_may_write_to_its_data_alone(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    hardened = ["User=opschat", "StateDirectory=opschat", "ProtectSystem=strict", "NoNewPrivileges=yes", "UMask=0077"]
    assert [line for line in hardened if line not in lines] == []
    assert not [line for line in lines if line.startswith("ReadWritePaths=")]
