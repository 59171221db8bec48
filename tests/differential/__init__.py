"""The same pod on this node and on a real kubelet of one cluster, compared: statuses, events, answers, endings."""
