"""Which of the machine's programs an instance sees: the distribution's, and exactly what runs the agent and containerd
where that stands elsewhere. No other directory of the machine is shown."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

import vk_provider
from vk_provider.cloud.local.containerd import Containerd
from vk_provider.errors import BadStartError

DISTRIBUTION = "/usr"
HIDDEN = ("/usr/local",)
"""The administrator's, of which only what is needed is shown."""
_UNMERGED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Directories of their own where the distribution has not merged them into /usr."""
_PROGRAMS = ("ip", "nft", "iptables", "ip6tables")
_NEVER = ("/", "/etc", "/home", "/opt", "/root", "/srv", "/tmp", "/usr/local", "/var", "/var/lib")
"""Where people keep what is theirs: a prefix that would show one of these whole is a mistake of the installation."""


def python_paths() -> list[str]:
    """The interpreter, its libraries and those of the environment it runs in, and this package; nothing else that lies
    beside them, such as a project's files around an environment."""
    found = [sys.executable, os.path.join(sys.prefix, "pyvenv.cfg")]
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        found += [os.path.join(prefix, name) for name in ("lib", "lib64")]
    return [*found, str(Path(vk_provider.__file__).resolve().parent)]


def find_software(runtime: Containerd, cni_bin_dir: str, path: str) -> tuple[str, ...]:
    """The binds of an instance in the order in which they are made. `path`: of its processes. Raises BadStartError."""
    programs = [found for name in _PROGRAMS if (found := shutil.which(name, path=path)) is not None]
    programs += [runtime.path, runtime.shim_path, runtime.runc_path]
    needed = [*python_paths(), cni_bin_dir, *(_without_merged(program) for program in programs)]
    shown = [DISTRIBUTION, *(name for name in _UNMERGED if os.path.isdir(name) and not os.path.islink(name))]
    return find_binds(needed, shown, HIDDEN)


def find_binds(needed: Iterable[str], shown: Iterable[str], hidden: Collection[str]) -> tuple[str, ...]:
    """`shown`, and those needed paths that are not within it or that are within `hidden`. Where links lead to one, each
    step of the way is needed. Raises BadStartError for a path that would show more than software."""
    binds = list(shown)
    for path in sorted({step for name in needed for step in _follow(name, binds, hidden) if os.path.exists(step)}):
        if path in _NEVER:
            raise BadStartError(f"local cloud: {path} holds more than the software that instances need")
        if not _is_shown(path, binds, hidden):
            binds.append(path)
    return tuple(binds)


def _is_shown(path: str, binds: Iterable[str], hidden: Collection[str]) -> bool:
    return any(
        _is_within(path, bound)
        and not any(_is_within(path, name) and _is_within(name, bound) and name != bound for name in hidden)
        for bound in binds
    )


def _without_merged(path: str) -> str:
    """The path with /bin and the like replaced by what they are links to: in an instance they are links, too."""
    top = "/" + path.split("/")[1]
    return os.path.realpath(top) + path.removeprefix(top) if top in _UNMERGED else path


def _follow(path: str, shown: Iterable[str], hidden: Collection[str]) -> list[str]:
    """The path, each path that a link at its end names, and the path without any link; just the path where the
    distribution has it, whose links lead to what is shown, too."""
    steps = [path]
    if _is_shown(path, shown, hidden):
        return steps
    while os.path.islink(steps[-1]) and len(steps) < 40:
        steps.append(os.path.normpath(os.path.join(os.path.dirname(steps[-1]), os.readlink(steps[-1]))))
    return [*steps, os.path.realpath(path)]


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
