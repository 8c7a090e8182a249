"""A virtual environment for each rival that does not get along with Tandem's own packages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .catalog import RIVALS, Spec

ENVIRONMENTS = Path(".rivals")
NEEDS: dict[str, Spec] = {spec.environment: spec for spec in RIVALS.values() if spec.environment}


def python_of(name: str, root: Path | None = None) -> Path:
    """The interpreter of the environment `name`; it need not exist yet."""
    return (root or ENVIRONMENTS).absolute() / name / "bin" / "python"


def install(
    names: Sequence[str], root: Path | None = None, *, tell: Callable[[str], None] = lambda message: None
) -> dict[str, str]:
    """Make the environments `names` that are not there; the reason for each that could not be made.

    One that failed keeps pip's words in `install.log` and is made anew next time, like one whose packages changed.
    """
    failed: dict[str, str] = {}
    for name in names:
        folder = (root or ENVIRONMENTS).absolute() / name
        done = folder / ".installed"
        if done.exists() and done.read_text() == _wanted(name):
            continue
        wanted = NEEDS[name]
        tell(f"{name}: installing {', '.join(wanted.packages)} into {folder}")
        log = folder / "install.log"
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)  # no remnants of other pins
        pip, commands = [str(python_of(name, root)), "-m", "pip"], [["install", "--quiet", *wanted.packages]]
        if wanted.without:
            commands.append(["uninstall", "--quiet", "--yes", *wanted.without])
        with log.open("w") as file:
            for command in commands:
                code = subprocess.run([*pip, *command], stdout=file, stderr=subprocess.STDOUT, check=False).returncode
                if code:
                    break
        if code:
            lines = [line for line in log.read_text().splitlines() if line.startswith("ERROR")]
            failed[name] = lines[-1] if lines else f"pip ended with {code}, see {log}"
        else:
            done.write_text(_wanted(name))
    return failed


def _wanted(name: str) -> str:
    spec = NEEDS[name]
    return "\n".join([*spec.packages, *(f"without {each}" for each in spec.without)]) + "\n"


def install_for(rivals: Sequence[str], root: Path | None, *, tell: Callable[[str], None]) -> dict[str, str]:
    """Make the environments that `rivals` need; the reason for each rival whose environment could not be made."""
    needed = {name: RIVALS[name].environment for name in rivals if RIVALS[name].environment}
    failed = install(list(dict.fromkeys(needed.values())), root, tell=tell)
    return {name: failed[environment] for name, environment in needed.items() if environment in failed}
