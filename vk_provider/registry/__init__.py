"""The one door to image registries: what a name stands for and which architectures it has, by the pod's own
credentials. Nothing is pulled here."""
