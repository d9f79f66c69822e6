"""``python -m r1seg``: the command line, which the wheel carries as a program of its own."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def program() -> Path:
    """The program of this installation."""
    name = "r1seg.exe" if os.name == "nt" else "r1seg"
    schemes = [sysconfig.get_path("scripts")]
    user = f"{os.name}_user"
    if user in sysconfig.get_scheme_names():
        schemes.append(sysconfig.get_path("scripts", user))
    # Installed into a folder with `pip install --target`.
    schemes.append(str(Path(__file__).parent.parent / "bin"))
    for folder in schemes:
        if folder and (path := Path(folder) / name).is_file():
            return path
    places = ", ".join(folder for folder in schemes if folder)
    fix = "install the wheel again with pip install --force-reinstall"
    sys.exit(f"r1seg: the program is in none of {places}\n  fix: {fix}")


def main() -> None:
    """Becomes the program."""
    path = str(program())
    if os.name == "nt":
        sys.exit(subprocess.call([path, *sys.argv[1:]]))
    os.execv(path, [path, *sys.argv[1:]])


if __name__ == "__main__":
    main()
