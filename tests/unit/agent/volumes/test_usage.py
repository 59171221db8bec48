import os

from vk_provider.agent.volumes.usage import measure_directory, measure_file_system


def test_a_directory_is_measured_with_hard_links_counted_once(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(os.urandom(100_000))
    os.link(tmp_path / "d/f", tmp_path / "again")
    (tmp_path / "link").symlink_to("/etc")
    found = measure_directory(str(tmp_path))
    assert 100_000 <= found.used_bytes < 160_000
    assert found.inodes_used == 4
    assert found.capacity_bytes >= found.available_bytes > 0


def test_a_file_system_is_measured_without_walking():
    found = measure_file_system("/proc/self/..")
    assert found.used_bytes >= 0 and found.inodes_used >= 0
