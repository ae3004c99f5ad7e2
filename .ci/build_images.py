"""Build the local container images out of this machine's files, by `docker import`: seconds, and no registry.

    python .ci/build_images.py [NAME ...]     # sections of fixtures/containers/images.toml; by default all

Run it with the Python in whose environment the extra `embedded` is installed.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent.parent / "fixtures" / "containers"
NEVER = {"__pycache__"}
NEVER_ENDING = (".a", ".pyc")


def places() -> dict[str, str]:
    """Return what the braces in images.toml stand for."""
    version = f"python{sysconfig.get_python_version()}"
    return {
        "python": sys.base_prefix,
        "version": version,
        "lib": f"{sys.base_prefix}/lib/{version}",
        "packages": sysconfig.get_path("purelib"),
        "here": str(HERE),
    }


class Archive:
    """The files of an image, each written once, and the libraries that they turn out to need."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._tar = tarfile.open(fileobj=stream, mode="w|", dereference=True)  # noqa: SIM115 (see close)
        self._written: set[str] = set()
        self._needed: set[str] = set()

    def folder(self, name: str, owner: int, mode: int) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
        self._tar.addfile(entry)

    def text(self, name: str, text: str) -> None:
        entry = tarfile.TarInfo(name.lstrip("/"))
        entry.size, entry.mode = len(text.encode()), 0o644
        self._tar.addfile(entry, io.BytesIO(text.encode()))

    def file(self, source: str, target: str) -> None:
        if target in self._written:
            return
        self._written.add(target)
        with open(source, "rb") as file:
            entry = self._tar.gettarinfo(arcname=target.lstrip("/"), fileobj=file)
            entry.uid = entry.gid = 0
            entry.mode = 0o755 if os.access(source, os.X_OK) or target.endswith(".sh") else 0o644
            if file.read(4) == b"\x7fELF":
                self._needed |= libraries(source)
            file.seek(0)
            self._tar.addfile(entry, file)

    def close(self, *, inside: tuple[str, ...]) -> None:
        """Add the libraries that did not come with one of the trees, and finish."""
        for library in sorted(self._needed):
            if not library.startswith(inside):
                self.file(library, library)
        self._tar.close()


def libraries(program: str) -> set[str]:
    """Return the shared libraries that a program is linked with."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


def files_below(folder: str, skip: set[str]) -> Iterator[str]:
    """Return every file of a tree that goes into an image."""
    if not Path(folder).is_dir():
        raise SystemExit(
            f"{folder} is not here. Install the extra: pip install 'pytest-ssot-isolation[embedded]'"
        )
    for parent, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if name not in skip | NEVER)
        for name in sorted(names):
            path = os.path.join(parent, name)
            if name not in skip and not name.endswith(NEVER_ENDING) and os.path.exists(path):
                yield path


def build(image: dict[str, Any]) -> None:
    """Build one image and give it its tag."""
    where = places()
    trees = [(source.format(**where), target.format(**where)) for source, target in image["trees"]]
    changes = [part for change in image["changes"] for part in ("--change", change)]
    command = ["docker", "import", *changes, "-", image["tag"]]
    docker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert docker.stdin is not None
    archive = Archive(docker.stdin)
    user, number = image["user"]["name"], image["user"]["id"]
    archive.folder("/tmp", 0, 0o1777)
    archive.folder("/data", number, 0o700)
    archive.text("/etc/passwd", f"root:x:0:0::/:/bin/sh\n{user}:x:{number}:{number}::/data:/bin/sh\n")
    for source, target in trees:
        for path in files_below(source, set(image["skip"])):
            archive.file(path, target + path.removeprefix(source))
    for source, target in image["files"]:
        archive.file(source.format(**where), target)
    archive.close(inside=tuple(source for source, _ in trees))
    docker.stdin.close()
    if docker.wait():
        raise SystemExit(f"docker import of {image['tag']} failed")
    print(f"built {image['tag']}", flush=True)


def main(names: list[str]) -> None:
    with open(HERE / "images.toml", "rb") as file:
        images = tomllib.load(file)
    if unknown := sorted(set(names) - images.keys()):
        raise SystemExit(f"there are no images {unknown}; there are {sorted(images)}")
    for name in names or images:
        build(images[name])


if __name__ == "__main__":
    main(sys.argv[1:])
