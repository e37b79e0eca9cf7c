#!/usr/bin/env python3
"""Set up the virtual environment of SRNet. Needs only Python's standard library.

    python3 requirements/install.py [VENV, default .venv]    (`make install` does this)

It creates VENV and installs the pinned requirements (pip checks their hashes), Detectron2 and SRNet
itself. Then it writes a stamp. A second run does nothing unless the requirements changed.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHONS = ((3, 10), (3, 12))
# The environment takes 5.5 GB. During the installation pip also needs room for unpacking and for
# its cache.
NEEDED_GB = 9
PINNED = ("build.txt", "lock.txt", "detectron2.txt")


def fail(message):
    """Print a message and exit with status 1."""
    sys.exit("install: " + message)


def fingerprint():
    """Hash everything that decides what is in the environment."""
    digest = hashlib.sha256(sys.version.encode())
    for name in [os.path.join("requirements", n) for n in PINNED] + ["setup.py", "pyproject.toml"]:
        with open(os.path.join(ROOT, name), "rb") as f:
            digest.update(f.read())
    return digest.hexdigest()


def free_gb(path):
    """Free disk space in GB where `path` is or would be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free / 1e9


def pip(python, *arguments):
    """Run pip. If it fails, say what to do and exit."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command) == 0:
        return
    venv = os.path.dirname(os.path.dirname(python))
    if free_gb(venv) < 1:
        fail(
            "the disk of %s is full. Free %d GB, then run `make install` again" % (venv, NEEDED_GB)
        )
    fail(
        "this step failed:\n  %s\nThe message of pip is above. INSTALL.md lists known problems. "
        "When it is solved, run `make install` again." % " ".join(command)
    )


def install_detectron2(python):
    """Install the wheel for Python 3.10 into any Python; INSTALL.md says why."""
    site = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True
    ).strip()
    foreign = (
        "--python-version 3.10 --implementation cp --abi none --platform any --only-binary=:all:"
    )
    requirements = os.path.join(ROOT, "requirements", "detectron2.txt")
    pip(
        python,
        "install",
        "--target",
        site,
        "--upgrade",
        "--no-deps",
        "--require-hashes",
        *foreign.split(),
        "-r",
        requirements,
    )
    # The compiled extension was built for another torch; Detectron2 falls back when it is absent,
    # not when it is broken.
    for name in os.listdir(os.path.join(site, "detectron2")):
        if name.startswith("_C.") and name.endswith(".so"):
            os.remove(os.path.join(site, "detectron2", name))
    move_tools(site, os.path.dirname(os.path.dirname(python)))


def move_tools(site, venv):
    """Move Detectron2's scripts, which the wheel installs as a package `tools`, off the path.

    That name is too common for a package. The scripts are then in VENV/share/detectron2/tools.
    """
    scripts = os.path.join(site, "tools")
    if not os.path.isdir(scripts):
        return
    kept = os.path.join(venv, "share", "detectron2", "tools")
    shutil.rmtree(kept, ignore_errors=True)
    os.makedirs(os.path.dirname(kept), exist_ok=True)
    shutil.move(scripts, kept)


def main():
    """Install everything, unless the stamp shows that nothing changed."""
    version = sys.version_info[:2]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        fail(
            "Python %d.%d is not supported: SRNet needs 3.10, 3.11 or 3.12.\n"
            "Install one of them, then run `make install PYTHON=/path/to/python3.11`." % version
        )
    venv = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, ".venv"))
    stamp = os.path.join(venv, "srnet-installed")
    wanted = fingerprint()
    if os.path.exists(stamp):
        with open(stamp) as f:
            if f.read() == wanted:
                return
        print("install: the requirements or the Python version changed; updating %s" % venv)
    elif free_gb(venv) < NEEDED_GB:
        fail(
            "%.1f GB are free on the disk of %s, and %d GB are needed, most of it for PyTorch.\n"
            "Free some space, or use another place: `make install VENV=/path/on/a/larger/disk`."
            % (free_gb(venv), venv, NEEDED_GB)
        )
    python = os.path.join(venv, "bin", "python")
    if subprocess.call([sys.executable, "-m", "venv", venv]) != 0:
        fail("cannot create %s. On Debian and Ubuntu, `apt install python3-venv` may help" % venv)
    requirements = os.path.join(ROOT, "requirements")
    pip(python, "install", "--require-hashes", "-r", os.path.join(requirements, "build.txt"))
    pip(
        python,
        "install",
        "--require-hashes",
        "--no-deps",
        "--no-build-isolation",
        "-r",
        os.path.join(requirements, "lock.txt"),
    )
    install_detectron2(python)
    pip(python, "install", "--no-deps", "--no-build-isolation", "-e", ROOT)
    with open(stamp, "w") as f:
        f.write(wanted)
    print("install: done. The environment is %s" % venv)


if __name__ == "__main__":
    main()
