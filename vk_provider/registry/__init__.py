"""The one door to image registries: what a name stands for, by the pod's own credentials. Nothing is pulled here."""
