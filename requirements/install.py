#!/usr/bin/env python3
"""Set up SRNet's virtual environment, with nothing but Python's standard library.

    python3 requirements/install.py [VENV, default .venv]    (`make install` does this)

It makes VENV, installs the pinned requirements with their hashes, Detectron2 and SRNet itself, and
leaves a stamp; while the requirements do not change, a second run finds the stamp and does nothing.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PYTHONS = ((3, 10), (3, 12))
# The environment takes 5.5 GB; pip unpacks beside it, and keeps what it downloaded in its cache.
NEEDED_GB = 9
PINNED = ("build.txt", "lock.txt", "detectron2.txt")


def fail(message):
    """End with a message."""
    sys.exit("install: " + message)


def fingerprint():
    """Hash everything the environment is made from, so that a change of it is noticed."""
    digest = hashlib.sha256(sys.version.encode())
    for name in [os.path.join("requirements", n) for n in PINNED] + ["setup.py", "pyproject.toml"]:
        with open(os.path.join(ROOT, name), "rb") as f:
            digest.update(f.read())
    return digest.hexdigest()


def free_gb(path):
    """Free disk space where `path` is or would be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free / 1e9


def pip(python, *arguments):
    """Run pip, and say what to do where it fails."""
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.call(command) == 0:
        return
    venv = os.path.dirname(os.path.dirname(python))
    if free_gb(venv) < 1:
        fail("the disk of %s is full: free %d GB and run `make install` again" % (venv, NEEDED_GB))
    fail(
        "this step failed:\n  %s\npip's message is above; INSTALL.md lists known causes. Run "
        "`make install` again once it is mended." % " ".join(command)
    )


def install_detectron2(python):
    """Put the wheel tagged cp310 into the site-packages of any Python; INSTALL.md says why."""
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
    """Install, unless the stamp says that nothing changed."""
    version = sys.version_info[:2]
    if not PYTHONS[0] <= version <= PYTHONS[1]:
        fail(
            "Python %d.%d is not supported: SRNet needs 3.10, 3.11 or 3.12.\n"
            "Install one and run `make install PYTHON=/path/to/python3.11`." % version
        )
    venv = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, ".venv"))
    stamp = os.path.join(venv, "srnet-installed")
    wanted = fingerprint()
    if os.path.exists(stamp):
        with open(stamp) as f:
            if f.read() == wanted:
                return
        print("install: the requirements or the Python changed, updating %s" % venv)
    elif free_gb(venv) < NEEDED_GB:
        fail(
            "%.1f GB are free where %s would be, and %d GB are needed, most of it for PyTorch.\n"
            "Free some, or name another place: `make install VENV=/path/on/a/larger/disk`."
            % (free_gb(venv), venv, NEEDED_GB)
        )
    python = os.path.join(venv, "bin", "python")
    if subprocess.call([sys.executable, "-m", "venv", venv]) != 0:
        fail("could not make %s; on Debian and Ubuntu, `apt install python3-venv` may help" % venv)
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
    print("install: done, the environment is %s" % venv)


if __name__ == "__main__":
    main()
