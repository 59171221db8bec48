"""The kubelet's HTTPS API (:10250) of every Node: one module per endpoint, authentication, authorization.

It answers from the state of `pods` (through the Protocols in `provider`) and forwards logs, run and upgraded streams
to the agents. It decides nothing about pods. Bodies and status codes are those of a kubelet (pkg/kubelet/server).
"""
