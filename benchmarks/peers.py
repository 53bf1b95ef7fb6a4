# SPDX-License-Identifier: MIT
"""Install the peer loops of requirements.txt into the running environment.

Each is installed by itself and only from a wheel, so that one without a wheel for this Python
does not keep the others away. The exit status is 0 however many could be had: run.py compares
what is there and says what is not.
"""

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def requirements() -> list[str]:
    """Return the requirement lines, comments removed, markers kept."""
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines())
    return [line for line in lines if line]


def install(requirement: str) -> str:
    """Install one requirement; return '' or the last line pip had to say."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run(
        [*command, "--only-binary=:all:", requirement], capture_output=True, text=True
    )
    if result.returncode == 0:
        return "does not support this Python" if "Ignoring" in result.stdout else ""
    return result.stderr.strip().splitlines()[-1]


def main() -> None:
    """Install all of them, one line of output each."""
    for requirement in requirements():
        problem = install(requirement)
        print(f"{requirement.partition(';')[0]:22}{problem or 'installed'}", flush=True)


if __name__ == "__main__":
    main()
