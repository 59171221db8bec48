"""Roles of pods (EKS Pod Identity): takes the tokens that containers show to their agent, proves that each is that
pod's own, and answers with what the cloud gives for it. Called by `pods` for messages of agents; knows no cloud by
name."""
