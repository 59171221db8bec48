"""Debian packages that an image needs but this machine should not run: fetched and unpacked, never installed.

apt checks signatures with the machine's own sources and keyrings; its state for source packages is kept apart.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.errors import ClusterError

APT_NEXT_STEP = "apt-get update (as root), and check that this machine reaches its Debian mirror"


def installed_version(package: str) -> str:
    """The version of an installed package."""
    query = ["dpkg-query", "--show", "--showformat=${Version}", package]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    if found.returncode or not found.stdout:
        raise ClusterError(f"the Debian package {package} is not installed", "python -m tests.cluster.packages install")
    return found.stdout.strip()


def _apt_get(arguments: list[str], directory: Path, what: str) -> None:
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", *arguments]
    ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ClusterError(f"{what}: {ran.stderr.strip()[-500:] or 'apt-get failed'}", APT_NEXT_STEP)


def unpack_packages(packages: list[str], directory: Path) -> None:
    """Download binary packages and unpack their files under `directory`, which appears only when all went well."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".unpack-", dir=directory.parent))
    try:
        _apt_get(["download", *packages], staging, f"cannot download {' '.join(packages)}")
        tree = staging / "tree"
        for archive in sorted(staging.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(tree)], check=True)
        shutil.rmtree(directory, ignore_errors=True)
        tree.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def source_entries(texts: list[str], codename: str) -> str:
    """deb822 stanzas for the source packages of the release `codename`, made from this machine's binary sources.

    `texts` are sources files of either form, one-line (`deb [options] uri suite component...`) or deb822.
    """
    stanzas = []
    for text in texts:
        for stanza in re.split(r"\n\s*\n", text):
            body = "\n".join(line for line in stanza.splitlines() if line.strip() and not line.startswith("#"))
            suites = re.search(r"^Suites:(.*)$", body, re.MULTILINE)
            if suites and codename in re.split(r"[\s-]", suites[1]):
                stanzas.append(re.sub(r"^Types:.*$", "Types: deb-src", body, flags=re.MULTILINE))
        for line in text.splitlines():
            matched = re.match(r"deb\s+(?:\[(.*?)\]\s+)?(\S+)\s+(\S+)\s+(.+)$", line.strip())
            if matched and codename in matched[3].split("-"):
                signed = re.search(r"signed-by=(\S+)", matched[1] or "")
                stanza = f"Types: deb-src\nURIs: {matched[2]}\nSuites: {matched[3]}\nComponents: {matched[4]}"
                stanzas.append(stanza + (f"\nSigned-By: {signed[1]}" if signed else ""))
    return "\n\n".join(stanzas) + "\n"


def _codename() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if not found:
        raise ClusterError("this is not a Debian machine (no VERSION_CODENAME in /etc/os-release)", "use Debian 12")
    return found[1]


def download_source(package: str, directory: Path) -> Path:
    """Download a source package into `directory`; returns the upstream tarball."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    texts = [path.read_text() for path in files if path.suffix in (".list", ".sources") and path.is_file()]
    (directory / "state" / "lists" / "partial").mkdir(parents=True)
    (directory / "cache" / "archives" / "partial").mkdir(parents=True)
    (directory / "debian.sources").write_text(source_entries(texts, _codename()))
    options = []
    for name, value in (
        ("Dir::Etc::sourcelist", directory / "debian.sources"),
        ("Dir::Etc::sourceparts", directory / "none"),
        ("Dir::State::lists", directory / "state" / "lists"),
        ("Dir::Cache", directory / "cache"),
    ):
        options += ["-o", f"{name}={value}"]
    (directory / "none").mkdir()
    _apt_get([*options, "update"], directory, "cannot read Debian's source index")
    _apt_get([*options, "source", "--download-only", package], directory, f"cannot download the source of {package}")
    tarballs = sorted(directory.glob("*.orig.tar.*[!c]"))
    if not tarballs:
        raise ClusterError(f"the source package {package} has no upstream tarball", APT_NEXT_STEP)
    return tarballs[0]
