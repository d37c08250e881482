"""The built package, installed by the pip that comes with Python, in an environment of its own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest
from support import PACE, Installed, Tool, need, only, pip_install

from rillevents.serve import api as look
from rillevents.testing import FakeIntake

pytestmark = [pytest.mark.slow, pytest.mark.unmeasured]

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain venv with nothing in it but the wheel and its core dependencies."""
    folder = tmp_path_factory.mktemp("env") / "venv"
    venv.create(folder, with_pip=True)
    pip_install(folder, wheel)
    return folder


@pytest.fixture
def installed(environment: Path, tmp_path: Path) -> Installed:
    """The installed tool, with an empty home."""
    (tmp_path / "user").mkdir()
    return Installed(tmp_path / "home", environment)


def test_main_job(installed: Installed) -> None:
    """Recorded, flushed and arrived, with nothing installed but the core dependencies."""
    assert 0 == installed("record", "behavioral", "login-start", "-a", "plan=pro").returncode
    with FakeIntake() as intake:
        assert 0 == installed("flush", RILLEVENTS_INTAKE_URL=intake.url).returncode
    assert "login-start" == only(intake.events)["event_name"]
    assert 0 == installed("demo").returncode


def test_script(installed: Installed) -> None:
    """The console script is our own, not the one that pip would write, and valid Python, too."""
    text = installed.script.read_text()
    assert "import re" not in text
    assert "from rillevents.cli import main" in text
    compile(text, str(installed.script), "exec")


@pytest.fixture(scope="session", params=["sp ace/[a]*", "x" * 120 + "/" + "y" * 120], ids=["space", "long"])
def elsewhere(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment whose path no first line of a script can hold."""
    folder = tmp_path_factory.mktemp("env") / str(request.param)
    venv.create(folder, with_pip=True)
    pip_install(folder, wheel)
    return folder


class TestScript:
    """The script in an environment at a path that the kernel would not read from its first line."""

    COMMANDS = (["record", "behavioral", "x"], ["record", "raw", "--help"], ["--version"])

    def check(self, words: list[str], tmp_path: Path, **environ: str) -> None:
        given = Tool(tmp_path / "home").environ | environ
        for command in self.COMMANDS:
            done = subprocess.run([*words, *command], cwd=tmp_path, env=given, capture_output=True, text=True)
            assert (0, "") == (done.returncode, done.stderr), command

    def test_by_its_path(self, elsewhere: Path, tmp_path: Path) -> None:
        """It starts by its whole path, by PATH and from its own folder."""
        script = elsewhere / "bin" / "rillevents"
        self.check([str(script)], tmp_path)
        self.check(["rillevents"], tmp_path, PATH=f"{script.parent}:/usr/bin:/bin")
        self.check(["env", "-C", str(script.parent), "./rillevents"], tmp_path)
        self.check(["env", "-C", str(script.parent), "sh", "rillevents"], tmp_path)

    def test_by_links(self, elsewhere: Path, tmp_path: Path) -> None:
        """It starts by a symlink of any name, and by one to a relative path of another link, as pipx and `ln -s` make them."""
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "telemetry").symlink_to(elsewhere / "bin" / "rillevents")
        (tmp_path / "link").symlink_to("bin/telemetry")
        self.check([str(tmp_path / "bin" / "telemetry")], tmp_path)
        self.check(["./link"], tmp_path)

    @pytest.mark.parametrize("shell", ["dash", "bash --posix", "zsh --emulate sh"])
    def test_by_any_sh(self, shell: str, elsewhere: Path, tmp_path: Path) -> None:
        """Each shell that is `sh` somewhere finds the Python."""
        need(shell.split()[0])
        self.check([*shell.split(), str(elsewhere / "bin" / "rillevents")], tmp_path)

    def test_a_folder_that_is_searched_first(self, elsewhere: Path, tmp_path: Path) -> None:
        """With PYTHONSAFEPATH it starts, too; without it, nothing is imported from beside the script."""
        (elsewhere / "bin" / "errno.py").write_text("raise SystemExit(3)")
        script = str(elsewhere / "bin" / "rillevents")
        self.check([script], tmp_path)
        self.check([script], tmp_path, PYTHONSAFEPATH="1")
        (elsewhere / "bin" / "errno.py").unlink()

    def test_a_user_s_own_install(self, environment: Path, tmp_path: Path) -> None:
        """With no Python beside it, as after `pip install --user`, that one is taken from PATH which the package is for."""
        (tmp_path / "user" / "bin").mkdir(parents=True)
        (tmp_path / "user" / "lib").symlink_to(environment / "lib")
        (tmp_path / "user" / "bin" / "rillevents").write_bytes((environment / "bin" / "rillevents").read_bytes())
        (tmp_path / "user" / "bin" / "rillevents").chmod(0o755)
        (tmp_path / "path").mkdir()
        name = f"python3.{sys.version_info[1]}"
        (tmp_path / "path" / name).symlink_to(Path(sys.base_prefix) / "bin" / name)
        (tmp_path / "path" / "python3").write_text("#!/bin/sh\nexit 9\n")
        (tmp_path / "path" / "python3").chmod(0o755)
        environ = {"PATH": f"{tmp_path / 'path'}:/usr/bin:/bin", "PYTHONUSERBASE": str(tmp_path / "user")}
        self.check([str(tmp_path / "user" / "bin" / "rillevents")], tmp_path, **environ)

    def test_packages_that_only_a_search_finds(self, environment: Path, tmp_path: Path) -> None:
        """In an editable install, whose package a .pth file names, every command starts, beside the folder of data that pip leaves."""
        folder = tmp_path / "editable"
        venv.create(folder, with_pip=False)
        packages = next((folder / "lib").glob("python3*/site-packages"))
        others = next((environment / "lib").glob("python3*/site-packages"))
        (packages / "rillevents.pth").write_text(f"{others}\n")
        (packages / "rillevents" / "_completions").mkdir(parents=True)
        (folder / "bin" / "rillevents").write_bytes((environment / "bin" / "rillevents").read_bytes())
        (folder / "bin" / "rillevents").chmod(0o755)
        self.check([str(folder / "bin" / "rillevents")], tmp_path)
        # Also where the script takes that folder for the package.
        (packages / "rillevents" / "errors.py").touch()
        self.check([str(folder / "bin" / "rillevents")], tmp_path)


def test_the_readme_in_a_path_with_a_space(wheel: Path, tmp_path: Path) -> None:
    """The first of the README's two commands runs the demo in any folder."""
    command = only(re.findall(r"^python3 -m venv .* demo$", (ROOT / "README.md").read_text(), re.MULTILINE))
    folder = tmp_path / "sp ace"
    folder.mkdir()
    words = command.replace("python3", shlex.quote(sys.executable), 1).replace(
        " -q . ", f" -q {shlex.quote(str(wheel))} "
    )
    done = subprocess.run(
        words, shell=True, cwd=folder, env=Tool(folder / "home").environ, capture_output=True, text=True
    )
    assert 0 == done.returncode, done.stderr


def test_contents(wheel: Path) -> None:
    """The wheel holds the manual's pages, the server's page, the completions and the marker for types, and no test."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "rillevents/py.typed" in names
    assert any(name.startswith("rillevents/docs/") for name in names)
    assert {"rillevents/serve/page/index.html", "rillevents/serve/page/page.js"} <= set(names)
    for script in ("rillevents.bash", "_rillevents", "rillevents.fish", "rillevents.ps1"):
        assert f"rillevents/_completions/{script}" in names
    for _, (asset, _) in look.ASSETS.items():
        assert f"rillevents/serve/page/{asset}" in names
    for name in ("function.bash", "function.zsh", "standalone.sh"):
        assert f"rillevents/shell/{name}" in names
    assert not [name for name in names if name.startswith("tests")]


def test_completions(installed: Installed) -> None:
    """The installed tool prints the completions of the checkout."""
    assert (ROOT / "completions" / "rillevents.bash").read_text() == installed("completions", "bash").stdout


def test_pages(installed: Installed) -> None:
    """The installed tool has the manual."""
    assert (ROOT / "rillevents" / "docs" / "recording.md").read_text() == installed("help", "recording").stdout


def test_pyinstaller(installed: Installed, tmp_path: Path) -> None:
    """A program that records and flushes does so as a single file built by PyInstaller; an Application's delivers beside it."""
    need("objdump")
    pytest.importorskip("PyInstaller")
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from rillevents import Application, Client\n"
        "url = os.environ['RILLEVENTS_INTAKE_URL']\n"
        "app = Application('mytool', 'MYTOOL_', intake_url=url, auto_flush='1s')\n"
        "app.maybe_flush_child()\n"
        "open('ran', 'a').write('x')\n"
        "client = Client.from_config(on_error='raise')\n"
        "client.record_behavioral('login-start', plan='pro')\n"
        "print(client.flush(timeout=10).outcome)\n"
        "client.close()\n"
        "app.client().record_behavioral('beside')\n"
    )
    subprocess.run(
        [
            sys.executable,
            "-m",
            "PyInstaller",
            "--onefile",
            "--log-level",
            "ERROR",
            "--distpath",
            tmp_path,
            "--workpath",
            tmp_path / "work",
            "--specpath",
            tmp_path,
            program,
        ],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    with FakeIntake() as intake:
        done = subprocess.run(
            [tmp_path / "program"],
            env=installed.environ | {"RILLEVENTS_INTAKE_URL": intake.url, "MYTOOL_TELEMETRY": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        deadline = time.monotonic() + 60 * PACE
        while len(intake.events) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert "delivered\n" == done.stdout
    assert ["login-start", "beside"] == [event["event_name"] for event in intake.events]
    assert "x" == (tmp_path / "ran").read_text()


def test_pyinstaller_of_the_command_line(installed: Installed, tmp_path: Path) -> None:
    """The command line itself, built by PyInstaller, has the manual, and records."""
    need("objdump")
    pytest.importorskip("PyInstaller")
    (tmp_path / "tool.py").write_text("from rillevents.cli import main\nmain()\n")
    words = [sys.executable, "-m", "PyInstaller", "--log-level", "ERROR", "--distpath", tmp_path / "dist"]
    words += ["--workpath", tmp_path / "work", "--specpath", tmp_path, tmp_path / "tool.py"]
    subprocess.run(words, check=True, capture_output=True, cwd=tmp_path)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        built = [tmp_path / "dist/tool/tool", *words]
        return subprocess.run(built, env=installed.environ, capture_output=True, text=True, check=False)

    assert (ROOT / "rillevents/docs/recording.md").read_text() == run("help", "recording").stdout
    assert 0 == run("record", "behavioral", "login-start", "--on-error", "fail").returncode
    assert "1\n" == run("events", "--count").stdout


def test_serve_without_its_extra(installed: Installed) -> None:
    """Without the extra `serve` says what to install; its help, and everything else, is there all the same."""
    done = installed("serve", "--port", "0")
    assert 78 == done.returncode
    assert "serve needs uvicorn, which is not installed; run: pip install 'rillevents[serve]'" in done.stderr
    assert 0 == installed("serve", "--help").returncode
    assert 0 == installed("stats").returncode


def test_without_pytest(environment: Path) -> None:
    """`rillevents.testing` can be imported where pytest is not installed."""
    script = "import rillevents.testing as t; import sys; assert 'pytest' not in sys.modules; t.CapturingSink()"
    subprocess.run([environment / "bin" / "python", "-c", script], check=True)


def test_metadata(environment: Path) -> None:
    """The version of the metadata is the one that the package says."""
    script = "import importlib.metadata as m, rillevents, json; print(json.dumps([m.version('rillevents'), rillevents.__version__]))"
    done = subprocess.run([environment / "bin" / "python", "-c", script], check=True, capture_output=True)
    first, second = json.loads(done.stdout)
    assert first == second
