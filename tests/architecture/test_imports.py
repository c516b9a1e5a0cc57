import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PURE = ("fleet.protocol", "fleet.agent", "learning.core", "learning.experiments")
SERVER_LIBRARIES = ("django", "channels", "celery", "redis", "ninja", "obstore")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def modules_of(package: str) -> list[str]:
    folder = ROOT / package.replace(".", "/")
    names = [
        name for _, name, _ in pkgutil.walk_packages([str(folder)], f"{package}.", onerror=print)
    ]
    return [package, *(name for name in names if not name.endswith("__main__"))]


def test_the_import_contracts_hold():
    result = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("package", PURE)
def test_every_module_of_a_pure_package_imports_without_any_server_library(package):
    modules = modules_of(package)
    assert len(modules) > 1
    blocked = dict.fromkeys(SERVER_LIBRARIES)
    result = run_python(
        "import importlib, sys\n"
        f"sys.modules.update({blocked!r})\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_protocol_imports_without_torch_and_without_the_robot():
    blocked = dict.fromkeys(("torch", "httpx", "websockets", "fleet.agent", "learning"))
    result = run_python(
        "import importlib, sys\n"
        f"sys.modules.update({blocked!r})\n"
        f"for name in {modules_of('fleet.protocol')!r}: importlib.import_module(name)\n"
    )
    assert result.returncode == 0, result.stderr


def test_the_web_process_loads_no_torch_no_simulator_and_no_arrow_of_the_agent(tmp_path):
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, sop_web.asgi, sop_web.urls\n"
            "from django.urls import get_resolver\n"
            "get_resolver().url_patterns\n"
            "print([m for m in ('torch', 'mujoco', 'metaworld', 'fleet.agent.runtime')"
            " if m in sys.modules])",
        ],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "SOP_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_sidecars_are_read_without_torch():
    result = run_python(
        "import sys\nsys.modules['torch'] = None\n"
        "import learning.core.agreement, learning.core.sidecar\n",
    )
    assert result.returncode == 0, result.stderr
