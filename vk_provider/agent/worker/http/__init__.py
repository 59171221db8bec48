"""An HTTPGetAction as a kubelet carries it out, for probes and hooks; Go's words for what fails on a network."""
