"""What random pods are made of: features of the pod spec, and what is done to pods. Pure."""
