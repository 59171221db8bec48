"""Installing Debian packages: what is left of it, and what is said when it fails."""

import io
from pathlib import Path

import pytest

from tests.cluster import packages
from tests.cluster.errors import ClusterError


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY_RC_D", path)
    return path


def programs(directory: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Only these programs (and a shell's) on PATH; `_` in a name stands for `-`."""
    for name, script in scripts.items():
        path = directory / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")


def test_services_stay_down_while_packages_are_installed_and_at_the_next_boot(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    programs(tmp_path, monkeypatch, apt_get=f"{policy} x; echo apt $? $* >> {calls}", systemctl=f"echo $* >> {calls}")
    out = io.StringIO()
    packages.install(["curl", "docker-registry"], out)
    lines = calls.read_text().splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["101", "101"]
    assert lines[1].endswith("install -y --no-install-recommends curl docker-registry")
    assert lines[2:] == ["disable --quiet docker-registry"]
    assert not policy.exists()
    assert "installing 2 packages: done" in out.getvalue()


def test_a_policy_that_a_killed_run_has_left_goes_and_an_administrators_stays(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path, monkeypatch, apt_get="exit 0", systemctl="exit 0")
    policy.write_text(packages.POLICY)
    packages.install(["curl"], io.StringIO())
    assert not policy.exists()
    policy.write_text("#!/bin/sh\nexit 101\n")
    packages.install(["curl"], io.StringIO())
    assert policy.read_text() == "#!/bin/sh\nexit 101\n"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("E: Unable to locate package socat", "check the network"),
        ("E: dpkg was interrupted, you must manually run 'dpkg --configure -a'", "dpkg --configure -a, then"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "make room"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend.", "another package manager"),
    ],
)
def test_a_failure_shows_what_apt_said_and_names_the_next_step(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    programs(tmp_path, monkeypatch, apt_get=f'echo "{said}" >&2; exit 100')
    with pytest.raises(ClusterError) as caught:
        packages.install(["curl"], io.StringIO())
    what, _, next_step = str(caught.value).partition("next:")
    assert said in what and advice in next_step
    assert not policy.exists()


def test_a_machine_that_is_no_debian_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.main(["install"]) == 3
    assert "dpkg-query is missing" in capsys.readouterr().err
