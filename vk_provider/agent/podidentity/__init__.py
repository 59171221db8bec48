"""EKS Pod Identity on the instance: answers the SDKs of the pod's containers at the address that EKS's agent has on its
nodes. The credentials come from the provider; nothing of them is written down."""
