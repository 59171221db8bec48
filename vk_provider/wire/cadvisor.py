"""cAdvisor's container metrics that an agent may send: names, help texts, labels. Others are left out."""

from __future__ import annotations

COUNTERS = {
    "container_cpu_usage_seconds_total": "Cumulative cpu time consumed in seconds.",
    "container_cpu_user_seconds_total": "Cumulative user cpu time consumed in seconds.",
    "container_cpu_system_seconds_total": "Cumulative system cpu time consumed in seconds.",
    "container_cpu_cfs_periods_total": "Number of elapsed enforcement period intervals.",
    "container_cpu_cfs_throttled_periods_total": "Number of throttled period intervals.",
    "container_cpu_cfs_throttled_seconds_total": "Total time duration the container has been throttled.",
    "container_memory_failures_total": "Cumulative count of memory allocation failures.",
    "container_memory_failcnt": "Number of memory usage hits limits",
    "container_fs_reads_bytes_total": "Cumulative count of bytes read",
    "container_fs_writes_bytes_total": "Cumulative count of bytes written",
    "container_fs_reads_total": "Cumulative count of reads completed",
    "container_fs_writes_total": "Cumulative count of writes completed",
    "container_network_receive_bytes_total": "Cumulative count of bytes received",
    "container_network_receive_packets_total": "Cumulative count of packets received",
    "container_network_receive_errors_total": "Cumulative count of errors encountered while receiving",
    "container_network_receive_packets_dropped_total": "Cumulative count of packets dropped while receiving",
    "container_network_transmit_bytes_total": "Cumulative count of bytes transmitted",
    "container_network_transmit_packets_total": "Cumulative count of packets transmitted",
    "container_network_transmit_errors_total": "Cumulative count of errors encountered while transmitting",
    "container_network_transmit_packets_dropped_total": "Cumulative count of packets dropped while transmitting",
    "container_oom_events_total": "Count of out of memory events observed for the container",
}
GAUGES = {
    "container_memory_working_set_bytes": "Current working set in bytes.",
    "container_memory_usage_bytes": "Current memory usage in bytes, including all memory regardless of when it was "
    "accessed",
    "container_memory_rss": "Size of RSS in bytes.",
    "container_memory_cache": "Number of bytes of page cache memory.",
    "container_memory_swap": "Container swap usage in bytes.",
    "container_memory_max_usage_bytes": "Maximum memory usage recorded in bytes",
    "container_memory_mapped_file": "Size of memory mapped files in bytes.",
    "container_fs_usage_bytes": "Number of bytes that are consumed by the container on this filesystem.",
    "container_fs_limit_bytes": "Number of bytes that can be consumed by the container on this filesystem.",
    "container_processes": "Number of processes running inside the container.",
    "container_threads": "Number of threads running inside the container",
    "container_last_seen": "Last time a container was seen by the exporter",
    "container_start_time_seconds": "Start time of the container since unix epoch in seconds.",
    "container_spec_cpu_shares": "CPU share of the container.",
    "container_spec_cpu_period": "CPU period of the container.",
    "container_spec_cpu_quota": "CPU quota of the container.",
    "container_spec_memory_limit_bytes": "Memory limit for the container.",
}
CPU_SECONDS = frozenset(name for name in COUNTERS if name.startswith("container_cpu_") and "_cfs_" not in name)
"""CPU time that was used."""
MEMORY_BYTES = frozenset({"container_memory_working_set_bytes", "container_memory_usage_bytes", "container_memory_rss"})
"""Memory that is used."""
LABELS = frozenset({"cpu", "device", "failure_type", "interface", "scope"})
"""Of a sample itself, beside its container's and its pod's."""
